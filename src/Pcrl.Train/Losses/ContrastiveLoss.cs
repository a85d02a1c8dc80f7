using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Losses;

/// <summary>L_CLe and L_CLt: row i of one side belongs to row i of the other and to no other row.</summary>
public static class ContrastiveLoss
{
    /// <summary>
    /// Eq. 6 and 9: −½(α_v Σᵢ log(exp s_ii / Σ_{j≠i} exp s_ij) + α_w Σᵢ the same from text to image). The denominator leaves the pair itself out, so the
    /// value may be negative, and with fewer than two pairs there is nothing to compare with: the loss is then zero.
    /// </summary>
    /// <param name="similarities">s [N, N]: visual row i against text row j, divided by the temperature already.</param>
    /// <param name="alphaVisual">α_v.</param>
    /// <param name="alphaText">α_w.</param>
    public static Tensor Paper(Tensor similarities, double alphaVisual, double alphaText)
    {
        using var scope = NewDisposeScope();
        long pairs = similarities.shape[0];
        if (pairs < 2)
            return (similarities.sum() * 0).MoveToOuterDisposeScope(); // zero, with a zero gradient
        var positive = similarities.diagonal(); // [N]
        var negatives = similarities.masked_fill(eye(pairs, dtype: ScalarType.Bool, device: similarities.device), double.NegativeInfinity);
        var visual = (positive - negatives.logsumexp(1)).sum();
        var text = (positive - negatives.logsumexp(0)).sum();
        return (-0.5 * (alphaVisual * visual + alphaText * text)).MoveToOuterDisposeScope();
    }

    /// <summary>The authors' code, which is CLIP's: the mean cross-entropy in both directions, the pair itself in the denominator.</summary>
    /// <param name="similarities">s [N, N], scaled already.</param>
    public static Tensor Released(Tensor similarities)
    {
        using var scope = NewDisposeScope();
        long pairs = similarities.shape[0];
        if (pairs < 2)
            return (similarities.sum() * 0).MoveToOuterDisposeScope();
        var own = arange(pairs, device: similarities.device);
        var visual = nn.functional.cross_entropy(similarities, own);
        var text = nn.functional.cross_entropy(similarities.t(), own);
        return ((visual + text) / 2).MoveToOuterDisposeScope();
    }

    /// <summary>Cosine of every row of <paramref name="visual"/> [N, E] with every row of <paramref name="text"/> [M, E]: [N, M].</summary>
    public static Tensor Cosine(Tensor visual, Tensor text)
    {
        using var scope = NewDisposeScope();
        return nn.functional.normalize(visual, dim: 1).matmul(nn.functional.normalize(text, dim: 1).t()).MoveToOuterDisposeScope();
    }
}
