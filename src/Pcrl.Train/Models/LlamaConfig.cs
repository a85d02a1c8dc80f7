namespace Pcrl.Train.Models;

/// <summary>Dimensions of a LLaMA-3 model under Hugging Face's names. The defaults are those of LLaMA-3-8B.</summary>
public sealed record LlamaConfig
{
    /// <summary>Rows of the token embedding; 0 in a run's configuration means: as many as the tokenizer has.</summary>
    public int VocabSize { get; init; } = 128256;

    /// <summary>Model dimension.</summary>
    public int HiddenSize { get; init; } = 4096;

    /// <summary>Inner dimension of the feed-forward block.</summary>
    public int IntermediateSize { get; init; } = 14336;

    /// <summary>Decoder layers.</summary>
    public int NumHiddenLayers { get; init; } = 32;

    /// <summary>Query heads; <see cref="HiddenSize"/> is a multiple of it.</summary>
    public int NumAttentionHeads { get; init; } = 32;

    /// <summary>Key and value heads; divides <see cref="NumAttentionHeads"/>.</summary>
    public int NumKeyValueHeads { get; init; } = 8;

    /// <summary>ε of the RMS norms.</summary>
    public float RmsNormEps { get; init; } = 1e-5f;

    /// <summary>Base θ of the rotary frequencies.</summary>
    public float RopeTheta { get; init; } = 500000f;

    /// <summary>Dimension of one head.</summary>
    public int HeadSize => HiddenSize / NumAttentionHeads;
}

/// <summary>Low-rank adapters of the LLM (§4.1) under PEFT's names. The defaults are the authors'.</summary>
public sealed record LoraConfig
{
    /// <summary>Rank.</summary>
    public int R { get; init; } = 8;

    /// <summary>The adapter's output is scaled by <c>LoraAlpha / R</c>.</summary>
    public float LoraAlpha { get; init; } = 32;

    /// <summary>Dropout on the adapter's input while training.</summary>
    public float LoraDropout { get; init; } = 0.05f;

    /// <summary>Last part of the names of the linear maps that get an adapter.</summary>
    public IReadOnlyList<string> TargetModules { get; init; } = ["q_proj", "v_proj"];
}
