namespace Pcrl.Train.Models.Clip;

/// <summary>Dimensions of a BERT encoder; the defaults are Bio_ClinicalBERT's, MedCLIP's text side.</summary>
public sealed record BertConfig
{
    /// <summary>Word pieces.</summary>
    public int VocabSize { get; init; } = 28996;

    /// <summary>Width.</summary>
    public int HiddenSize { get; init; } = 768;

    /// <summary>Layers.</summary>
    public int NumHiddenLayers { get; init; } = 12;

    /// <summary>Attention heads.</summary>
    public int NumAttentionHeads { get; init; } = 12;

    /// <summary>Hidden units of the feed-forward blocks.</summary>
    public int IntermediateSize { get; init; } = 3072;

    /// <summary>Longest text in word pieces.</summary>
    public int MaxPositionEmbeddings { get; init; } = 512;

    /// <summary>Kinds of segments; only the first is used here.</summary>
    public int TypeVocabSize { get; init; } = 2;

    /// <summary>ε of every LayerNorm.</summary>
    public double LayerNormEps { get; init; } = 1e-12;

    /// <summary>What is impossible about it, or null.</summary>
    internal string? Problem()
    {
        foreach (var (name, value) in (ReadOnlySpan<(string, int)>)[
            ("vocab_size", VocabSize), ("hidden_size", HiddenSize), ("num_hidden_layers", NumHiddenLayers), ("num_attention_heads", NumAttentionHeads),
            ("intermediate_size", IntermediateSize), ("max_position_embeddings", MaxPositionEmbeddings), ("type_vocab_size", TypeVocabSize)])
        {
            if (value is < 1 or > 1 << 20)
                return $"{name} is {value}, outside 1 to {1 << 20}";
        }
        return HiddenSize % NumAttentionHeads != 0 ? $"{NumAttentionHeads} attention heads do not divide the width {HiddenSize}"
            : LayerNormEps is > 0 and < 1 ? null : $"layer_norm_eps is {LayerNormEps}";
    }
}
