namespace Pcrl.Train.Models.Sam;

/// <summary>Dimensions of a Segment Anything model; <see cref="Base"/>, <see cref="Large"/> and <see cref="Huge"/> are the published ones.</summary>
public sealed record SamConfig
{
    /// <summary>Longest side of the input picture; the rest of the square is padding.</summary>
    public int ImageSize { get; init; } = 1024;

    /// <summary>Side of a patch.</summary>
    public int PatchSize { get; init; } = 16;

    /// <summary>Width of the image encoder.</summary>
    public int EmbedDim { get; init; } = 768;

    /// <summary>Blocks of the image encoder.</summary>
    public int Depth { get; init; } = 12;

    /// <summary>Attention heads of the image encoder.</summary>
    public int NumHeads { get; init; } = 12;

    /// <summary>Hidden units of the encoder's feed-forward blocks per unit of width.</summary>
    public double MlpRatio { get; init; } = 4;

    /// <summary>Side of an attention window in patches.</summary>
    public int WindowSize { get; init; } = 14;

    /// <summary>Blocks that attend to the whole picture.</summary>
    public IReadOnlyList<int> GlobalAttnIndexes { get; init; } = [2, 5, 8, 11];

    /// <summary>Width of prompts, image embedding and mask decoder.</summary>
    public int PromptEmbedDim { get; init; } = 256;

    /// <summary>Channels while a mask prompt is reduced.</summary>
    public int MaskInChans { get; init; } = 16;

    /// <summary>Hidden units of the decoder's feed-forward blocks.</summary>
    public int DecoderMlpDim { get; init; } = 2048;

    /// <summary>Attention heads of the decoder.</summary>
    public int DecoderHeads { get; init; } = 8;

    /// <summary>Hidden units of the head that predicts a mask's IoU.</summary>
    public int IouHidden { get; init; } = 256;

    /// <summary>Per-channel mean of the input, 0 to 255.</summary>
    public IReadOnlyList<double> PixelMean { get; init; } = [123.675, 116.28, 103.53];

    /// <summary>Per-channel standard deviation of the input, 0 to 255.</summary>
    public IReadOnlyList<double> PixelStd { get; init; } = [58.395, 57.12, 57.375];

    /// <summary>ViT-B.</summary>
    public static SamConfig Base { get; } = new();

    /// <summary>ViT-L.</summary>
    public static SamConfig Large { get; } = new() { EmbedDim = 1024, Depth = 24, NumHeads = 16, GlobalAttnIndexes = [5, 11, 17, 23] };

    /// <summary>ViT-H, which the paper uses.</summary>
    public static SamConfig Huge { get; } = new() { EmbedDim = 1280, Depth = 32, NumHeads = 16, GlobalAttnIndexes = [7, 15, 23, 31] };

    /// <summary>Side of the image embedding in patches.</summary>
    public int GridSize => ImageSize / PatchSize;

    /// <summary>Side of the decoder's own masks: four times the embedding's.</summary>
    public int LowResolution => 4 * GridSize;
}
