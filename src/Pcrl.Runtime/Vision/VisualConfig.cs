namespace Pcrl.Runtime.Vision;

/// <summary>
/// Dimensions of the visual path, the same for training, conversion and runtime. The defaults are the paper's (§3.1).
/// </summary>
public sealed record VisualConfig
{
    /// <summary>Side of the square input slices in pixels.</summary>
    public int ImageSize { get; init; } = 512;

    /// <summary>Residual block of the trunk: <c>bottleneck</c> (1×1, 3×3, 1×1, expansion 4) or <c>basic</c> (3×3, 3×3, expansion 1).</summary>
    public string Block { get; init; } = "bottleneck";

    /// <summary>Blocks per stage; ResNet101 has 3, 4, 23, 3. Every stage after the first halves the resolution.</summary>
    public IReadOnlyList<int> Depths { get; init; } = [3, 4, 23, 3];

    /// <summary>Channels of the stem and of the first stage before expansion; each later stage doubles it.</summary>
    public int Width { get; init; } = 64;

    /// <summary>Side of the grid features G after adaptive average pooling (§3.1); masks have this side too.</summary>
    public int Grid { get; init; } = 14;

    /// <summary>Width of a visual token: the LLM's model dimension.</summary>
    public int TokenWidth { get; init; } = 4096;

    /// <summary><c>local+global</c>: 48 tokens, the authors' code; <c>global</c>: 24 tokens, the paper's text.</summary>
    public string VisualTokens { get; init; } = "local+global";

    /// <summary>Per-channel mean of the input in 0..1 (ImageNet).</summary>
    public IReadOnlyList<float> Mean { get; init; } = [0.485f, 0.456f, 0.406f];

    /// <summary>Per-channel standard deviation of the input in 0..1 (ImageNet).</summary>
    public IReadOnlyList<float> Std { get; init; } = [0.229f, 0.224f, 0.225f];

    /// <summary>Channels of the trunk's last stage: 2048 for ResNet101.</summary>
    public int FeatureChannels => (Width << (Depths.Count - 1)) * (Block == "bottleneck" ? 4 : 1);

    /// <summary>Rows of H_v that enter the LLM: 48 or 24 for 24 slices.</summary>
    public int TokenCount(int slices) => VisualTokens == "global" ? slices : 2 * slices;
}
