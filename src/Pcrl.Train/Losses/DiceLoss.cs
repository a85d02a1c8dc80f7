using static TorchSharp.torch;

namespace Pcrl.Train.Losses;

/// <summary>L_seg: how far predicted masks are from the retrieved ones.</summary>
public static class DiceLoss
{
    /// <summary>Keeps 0/0 away where prediction and mask are both all zero: the loss is then 1, without a gradient.</summary>
    private const double Least = 1e-12;

    /// <summary>Eq. 3: 1 − 2Σp·y / (Σp² + Σy²), sums over everything that is given.</summary>
    /// <param name="probabilities">p in 0..1, any shape.</param>
    /// <param name="masks">y in 0..1, the same shape.</param>
    public static Tensor Paper(Tensor probabilities, Tensor masks)
    {
        using var scope = NewDisposeScope();
        var overlap = (probabilities * masks).sum();
        var whole = probabilities.square().sum() + masks.square().sum();
        return (1 - 2 * overlap / whole.clamp_min(Least)).MoveToOuterDisposeScope();
    }

    /// <summary>The authors' code: 1 − (2Σp·y + 1) / (Σp + Σy + 1) for every mask, then the mean.</summary>
    /// <param name="probabilities">p in 0..1, [N, …].</param>
    /// <param name="masks">y in 0..1, the same shape.</param>
    public static Tensor Released(Tensor probabilities, Tensor masks)
    {
        using var scope = NewDisposeScope();
        var (p, y) = (probabilities.flatten(1), masks.flatten(1)); // [N, pixels]
        var score = (2 * (p * y).sum(1) + 1) / (p.sum(1) + y.sum(1) + 1);
        return (1 - score.mean()).MoveToOuterDisposeScope();
    }
}
