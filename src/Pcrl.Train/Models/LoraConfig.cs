namespace Pcrl.Train.Models;

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
