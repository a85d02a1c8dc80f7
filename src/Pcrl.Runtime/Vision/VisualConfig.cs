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

    /// <summary>What is impossible about these dimensions, or null. Also bounds the memory that they can ask for.</summary>
    public string? Problem()
    {
        if (Block is null || Depths is null || VisualTokens is null || Mean is null || Std is null)
            return "block, depths, visual_tokens, mean or std is missing"; // read from JSON, where what is left out is null
        if (ImageSize is < 16 or > 2048)
            return $"image_size {ImageSize} is outside 16 to 2048";
        if (Block is not ("basic" or "bottleneck"))
            return "block is neither basic nor bottleneck";
        if (Depths.Count is < 1 or > 6 || !Depths.All(d => d is >= 1 and <= 200))
            return "depths is out of range";
        if (Width is < 1 or > 1024)
            return $"width {Width} is outside 1 to 1024";
        if ((long)ImageSize * ImageSize * Width > LargestLayer)
            return $"image_size {ImageSize} with width {Width} would need more memory than a model can ask for";
        if (Grid is < 2 or > 128 || Grid % 2 != 0)
            return $"grid {Grid} is not an even number from 2 to 128";
        if (TokenWidth is < 1 or > 65536)
            return $"token_width {TokenWidth} is outside 1 to 65536";
        if (VisualTokens is not ("local+global" or "global"))
            return "visual_tokens is neither local+global nor global";
        return Mean.Count == 3 && Std.Count == 3 && Mean.All(m => MathF.Abs(m) < 1e6f) && Std.All(s => s is > 1e-6f and < 1e6f) ? null : "mean and std need three sensible numbers each";
    }

    /// <summary>Pixels × width: ResNets keep size over the stages, so that two slices' activations stay below 512 MiB each. ResNet101 at 512² has a sixteenth.</summary>
    private const long LargestLayer = 1L << 28;
}
