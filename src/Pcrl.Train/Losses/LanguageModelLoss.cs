using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Losses;

/// <summary>L_g (eq. 1): cross-entropy of the findings' tokens.</summary>
public static class LanguageModelLoss
{
    /// <summary>A target that does not count: prompt, padding.</summary>
    public const long Ignored = -100;

    /// <summary>Mean over the targets that count; logits [N, V] at a position are scored against the target [N] of the same row.</summary>
    public static Tensor Mean(Tensor logits, Tensor targets) =>
        nn.functional.cross_entropy(logits, targets, ignore_index: Ignored, reduction: nn.Reduction.Mean);

    /// <summary>The same where targets weigh differently: weights [N], of which not all are 0; none of the targets is ignored.</summary>
    public static Tensor Mean(Tensor logits, Tensor targets, Tensor weights)
    {
        using var scope = NewDisposeScope();
        var each = nn.functional.cross_entropy(logits, targets, reduction: nn.Reduction.None);
        return ((each * weights).sum() / weights.sum()).MoveToOuterDisposeScope();
    }
}
