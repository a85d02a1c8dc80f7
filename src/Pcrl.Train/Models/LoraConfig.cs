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

    private static readonly string[] Modules = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"];

    /// <summary>What is impossible about it, or null.</summary>
    internal string? Problem() =>
        R is < 1 or > 4096 ? $"r is {R}, outside 1 to 4096"
        : !(LoraAlpha >= 0) ? $"lora_alpha is {LoraAlpha}, which is negative"
        : !(LoraDropout is >= 0 and < 1) ? $"lora_dropout is {LoraDropout}, not in 0..1"
        : !TargetModules.All(Modules.Contains) ? $"target_modules must be among {string.Join(", ", Modules)}"
        : null;
}
