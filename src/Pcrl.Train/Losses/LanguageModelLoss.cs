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
}
