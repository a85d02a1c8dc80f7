using Pcrl.Runtime.Bundles;

namespace Pcrl.Convert;

/// <summary>What a language model is stored as; the names are llama.cpp's.</summary>
public enum LlmType
{
#pragma warning disable CS1591 // the names are the formats' own
    F32,
    F16,
    BF16,
    Q8_0,
    Q4_K_M,
    Q5_K_M,
    Q6_K,
#pragma warning restore CS1591
}

/// <summary>Which element type each matrix gets; the same choices as llama.cpp's own quantiser makes.</summary>
internal static class TypeMix
{
    /// <summary><c>general.file_type</c> (<c>llama_ftype</c>).</summary>
    public static uint FileType(LlmType type) => type switch
    {
        LlmType.F32 => 0,
        LlmType.F16 => 1,
        LlmType.Q8_0 => 7,
        LlmType.Q4_K_M => 15,
        LlmType.Q5_K_M => 17,
        LlmType.Q6_K => 18,
        LlmType.BF16 => 32,
        _ => throw new ArgumentOutOfRangeException(nameof(type)),
    };

    /// <summary>The type of the token embedding; it is the output layer too where the two are tied.</summary>
    public static GgufType Embedding(LlmType type, int columns, bool tied) => tied ? Output(type, columns) : Fitting(Base(type), columns);

    /// <summary>The type of the output layer, the most sensitive matrix.</summary>
    public static GgufType Output(LlmType type, int columns) => Fitting(type is LlmType.Q4_K_M or LlmType.Q5_K_M ? GgufType.Q6_K : Base(type), columns);

    /// <summary>The type of a matrix of a decoder layer.</summary>
    /// <param name="type">The whole model's.</param>
    /// <param name="matrix">GGUF name without layer, e.g. <c>ffn_down</c>.</param>
    /// <param name="layer">From 0.</param>
    /// <param name="layers">Number of layers.</param>
    /// <param name="columns">Length of a row.</param>
    public static GgufType Layer(LlmType type, string matrix, int layer, int layers, int columns)
    {
        bool isMixed = type is LlmType.Q4_K_M or LlmType.Q5_K_M, isSensitive = matrix is "attn_v" or "ffn_down";
        bool isFirstLastOrThird = layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2;
        return Fitting(isMixed && isSensitive && isFirstLastOrThird ? GgufType.Q6_K : Base(type), columns);
    }

    private static GgufType Base(LlmType type) => type switch
    {
        LlmType.F32 => GgufType.F32,
        LlmType.F16 => GgufType.F16,
        LlmType.BF16 => GgufType.BF16,
        LlmType.Q8_0 => GgufType.Q8_0,
        LlmType.Q4_K_M => GgufType.Q4_K,
        LlmType.Q5_K_M => GgufType.Q5_K,
        LlmType.Q6_K => GgufType.Q6_K,
        _ => throw new ArgumentOutOfRangeException(nameof(type)),
    };

    /// <summary>The type itself, or the next larger one whose blocks divide the rows.</summary>
    private static GgufType Fitting(GgufType type, int columns)
    {
        if (columns % GgufTensor.Block(type)!.Value.Elements == 0)
            return type;
        var smaller = type switch
        {
            GgufType.Q4_K => GgufType.Q5_0,
            GgufType.Q5_K => GgufType.Q5_1,
            GgufType.Q6_K => GgufType.Q8_0,
            _ => GgufType.F16,
        };
        return columns % GgufTensor.Block(smaller)!.Value.Elements == 0 ? smaller : GgufType.F16;
    }
}
