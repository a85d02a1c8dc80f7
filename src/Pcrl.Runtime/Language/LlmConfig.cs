namespace Pcrl.Runtime.Language;

/// <summary>
/// Dimensions of a LLaMA-3 language model, the same for training, conversion and runtime; names as in Hugging Face's
/// <c>config.json</c>. The defaults are LLaMA-3-8B's.
/// </summary>
public sealed record LlmConfig
{
    /// <summary>Width d of the residual stream and of a visual token.</summary>
    public int HiddenSize { get; init; } = 4096;

    /// <summary>Width of the gated feed-forward layer.</summary>
    public int IntermediateSize { get; init; } = 14336;

    /// <summary>Decoder layers.</summary>
    public int NumHiddenLayers { get; init; } = 32;

    /// <summary>Attention heads; a head has <see cref="HeadSize"/> dimensions.</summary>
    public int NumAttentionHeads { get; init; } = 32;

    /// <summary>Heads of keys and values, each shared by a group of attention heads.</summary>
    public int NumKeyValueHeads { get; init; } = 8;

    /// <summary>Rows of the token embedding.</summary>
    public int VocabSize { get; init; } = 128256;

    /// <summary>Longest sequence the model was made for, in tokens.</summary>
    public int MaxPositionEmbeddings { get; init; } = 8192;

    /// <summary>Base of the rotary embedding.</summary>
    public float RopeTheta { get; init; } = 500000;

    /// <summary>How LLaMA-3.1 stretches the rotary embedding over longer texts; null for LLaMA-3.</summary>
    public RopeScaling? RopeScaling { get; init; }

    /// <summary>ε of RMSNorm.</summary>
    public float RmsNormEps { get; init; } = 1e-5f;

    /// <summary>Whether the output layer is the token embedding itself.</summary>
    public bool TieWordEmbeddings { get; init; }

    /// <summary>Dimensions of one head; 0 where there are none, which <see cref="Problem"/> refuses.</summary>
    public int HeadSize => NumAttentionHeads == 0 ? 0 : HiddenSize / NumAttentionHeads;

    /// <summary>What contradicts itself in these dimensions, or null.</summary>
    public string? Problem()
    {
        foreach (var (name, value, limit) in (ReadOnlySpan<(string, int, int)>)[
            ("hidden_size", HiddenSize, 1 << 16), ("intermediate_size", IntermediateSize, 1 << 18), ("num_hidden_layers", NumHiddenLayers, 256),
            ("num_attention_heads", NumAttentionHeads, 512), ("num_key_value_heads", NumKeyValueHeads, 512),
            ("vocab_size", VocabSize, 1 << 20), ("max_position_embeddings", MaxPositionEmbeddings, 1 << 24)])
        {
            if (value < 1 || value > limit)
                return $"{name} is {value}, outside 1 to {limit}";
        }
        if (HiddenSize % NumAttentionHeads != 0 || HeadSize % 2 != 0)
            return $"{NumAttentionHeads} attention heads do not divide the width {HiddenSize} into even parts";
        if (NumAttentionHeads % NumKeyValueHeads != 0)
            return $"{NumKeyValueHeads} key-value heads do not divide {NumAttentionHeads} attention heads";
        if (!(RopeTheta > 1 && float.IsFinite(RopeTheta)))
            return $"rope_theta is {RopeTheta}";
        if (RopeScaling?.Problem() is { } scaling)
            return scaling;
        return RmsNormEps is > 0 and < 1 ? null : $"rms_norm_eps is {RmsNormEps}";
    }
}

/// <summary>
/// LLaMA-3.1's rotary embedding (<c>rope_type: llama3</c>): frequencies whose wave is longer than the original context are divided by the factor, short ones
/// stay, those between are blended.
/// </summary>
/// <param name="Factor">What the slow frequencies are divided by.</param>
/// <param name="LowFreqFactor">Waves longer than the original context over this are slow.</param>
/// <param name="HighFreqFactor">Waves shorter than the original context over this stay.</param>
/// <param name="OriginalMaxPositionEmbeddings">The context before it was stretched, in tokens.</param>
public sealed record RopeScaling(float Factor, float LowFreqFactor, float HighFreqFactor, int OriginalMaxPositionEmbeddings)
{
    /// <summary>What each frequency of a head is divided by, [head / 2].</summary>
    public float[] Divisors(int headSize, double theta) => [.. Enumerable.Range(0, headSize / 2).Select(i =>
    {
        double wave = 2 * Math.PI * Math.Pow(theta, 2.0 * i / headSize);
        double turns = OriginalMaxPositionEmbeddings / wave; // within the original context
        if (turns > HighFreqFactor)
            return 1f;
        if (turns < LowFreqFactor)
            return Factor;
        double smooth = (turns - LowFreqFactor) / (HighFreqFactor - LowFreqFactor);
        return (float)(1 / ((1 - smooth) / Factor + smooth));
    })];

    /// <summary>What contradicts itself, or null.</summary>
    public string? Problem() =>
        Factor is >= 1 and <= 1024 && LowFreqFactor > 0 && HighFreqFactor > LowFreqFactor && float.IsFinite(HighFreqFactor) && OriginalMaxPositionEmbeddings > 0
            ? null : $"rope_scaling is {this}";
}
