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
}
