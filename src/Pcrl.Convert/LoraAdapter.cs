using System.Text.Json;
using System.Text.RegularExpressions;
using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;

namespace Pcrl.Convert;

/// <summary>What an adapter adds to one matrix: scale · B · A.</summary>
/// <param name="Rank">r.</param>
/// <param name="Scale">α/r, or α/√r for a rank-stabilised adapter.</param>
/// <param name="A">[r, in], row-major.</param>
/// <param name="B">[out, r], row-major.</param>
public sealed record LoraDelta(int Rank, float Scale, float[] A, float[] B);

/// <summary>A LoRA adapter that is to be merged into its base (§4.1 of the paper).</summary>
/// <param name="Path">Where it comes from; messages name it.</param>
/// <param name="Deltas">By the matrix they belong to in Hugging Face's names, e.g. <c>model.layers.0.self_attn.q_proj</c>.</param>
public sealed partial record LoraAdapter(string Path, IReadOnlyDictionary<string, LoraDelta> Deltas)
{
    /// <summary>Opens an adapter folder of PEFT: any target modules, rank and alpha patterns, rank-stabilised or not, no biases.</summary>
    /// <exception cref="InputException">Incomplete, broken, or of a kind that changes more than linear maps by B · A.</exception>
    public static LoraAdapter Open(string folder)
    {
        string configPath = System.IO.Path.Combine(folder, "adapter_config.json");
        var config = Json.ReadObject(configPath);
        RefuseOtherKinds(configPath, config);
        using var file = Checkpoint.Open(AdapterFile(folder));
        return FromTensors(folder, file, file.Names, module =>
        {
            float alpha = Pattern(configPath, config, "alpha_pattern", module) ?? Json.Number(configPath, config, "lora_alpha");
            return (alpha, Json.Flag(configPath, config, "use_rslora"));
        });
    }

    /// <summary>Gathers the adapter that stands among other tensors.</summary>
    /// <param name="path">Named in messages.</param>
    /// <param name="file">Holds the tensors.</param>
    /// <param name="names">Those that are to be read; each must be half of a pair.</param>
    /// <param name="settings">α of a matrix, and whether the adapter is rank-stabilised.</param>
    /// <exception cref="InputException">A half is missing, is named like nothing known, or has an impossible shape.</exception>
    public static LoraAdapter FromTensors(
        string path, ITensorSource file, IEnumerable<string> names, Func<string, (float Alpha, bool RankStabilised)> settings)
    {
        var halves = new Dictionary<string, (string? A, string? B)>();
        foreach (string name in names)
        {
            var match = HalfName().Match(name);
            if (!match.Success)
                throw new InputException(path, $"holds {name}, which is no part of a linear map's adapter");
            string module = match.Groups["module"].Value;
            var pair = halves.GetValueOrDefault(module);
            bool isA = match.Groups["half"].Value == "A";
            if ((isA ? pair.A : pair.B) is not null)
                throw new InputException(path, $"holds lora_{match.Groups["half"].Value} of {module} twice");
            halves[module] = isA ? (name, pair.B) : (pair.A, name);
        }
        if (halves.Count == 0)
            throw new InputException(path, "holds no adapter (no lora_A and lora_B)");
        var deltas = new Dictionary<string, LoraDelta>();
        foreach (var (module, (nameOfA, nameOfB)) in halves)
        {
            if (nameOfA is null || nameOfB is null)
                throw new InputException(path, $"lacks lora_{(nameOfA is null ? "A" : "B")} of {module}");
            var (shapeOfA, shapeOfB) = (file.Shape(nameOfA), file.Shape(nameOfB));
            if (shapeOfA.Count != 2 || shapeOfB.Count != 2 || shapeOfA[0] != shapeOfB[1] || shapeOfA[0] is < 1 or > 1 << 14)
                throw new InputException(path, $"{module}: lora_A [{string.Join(", ", shapeOfA)}] and lora_B [{string.Join(", ", shapeOfB)}] do not fit together");
            var (alpha, rankStabilised) = settings(module);
            int rank = (int)shapeOfA[0];
            float scale = alpha / (rankStabilised ? MathF.Sqrt(rank) : rank);
            if (!float.IsFinite(scale))
                throw new InputException(path, $"{module} has the scale {scale}");
            deltas[module] = new LoraDelta(rank, scale, Finite(path, nameOfA, file), Finite(path, nameOfB, file));
        }
        return new LoraAdapter(path, deltas);
    }

    /// <summary>PEFT writes <c>base_model.model.</c> before the names and, in memory, the adapter's own behind them (<c>lora_A.default.weight</c>).</summary>
    [GeneratedRegex(@"(?:^|\.)(?<module>model\.layers\.\d+\.[a-z_]+\.[a-z_]+|lm_head)\.lora_(?<half>A|B)\.(?:[A-Za-z0-9_]+\.)?weight$")]
    private static partial Regex HalfName();

    private static float[] Finite(string path, string name, ITensorSource file)
    {
        float[] values = file.ReadFloats(name);
        return float.IsFinite(System.Numerics.Tensors.TensorPrimitives.MaxMagnitude<float>(values))
            ? values : throw new InputException(path, $"tensor {name} holds NaN or infinity");
    }

    private static string AdapterFile(string folder)
    {
        string[] candidates = [.. new[] { "adapter_model.safetensors", "adapter_model.bin" }.Select(f => System.IO.Path.Combine(folder, f)).Where(File.Exists)];
        return candidates.Length > 0 ? candidates[0] : throw new InputException(folder, "holds no adapter_model.safetensors");
    }

    private static void RefuseOtherKinds(string path, JsonElement config)
    {
        if (Json.Text(path, config, "peft_type") != "LORA")
            throw new InputException(path, "is not of a LoRA adapter (peft_type)");
        if (Json.Text(path, config, "bias") is { } bias and not "none")
            throw new InputException(path, $"trains biases (bias: {bias}), which LLaMA has not");
        foreach (string flag in (string[])["use_dora", "fan_in_fan_out", "lora_bias"])
        {
            if (Json.Flag(path, config, flag))
                throw new InputException(path, $"has {flag}, which cannot be merged as B·A");
        }
        if (config.TryGetProperty("modules_to_save", out var saved) && saved.ValueKind == JsonValueKind.Array && saved.GetArrayLength() > 0)
            throw new InputException(path, "has modules_to_save: it replaces weights besides adding to them");
    }

    /// <summary>The entry of a <c>rank_pattern</c> or <c>alpha_pattern</c> whose key is the module's name or its end.</summary>
    private static float? Pattern(string path, JsonElement config, string key, string module)
    {
        if (!config.TryGetProperty(key, out var pattern) || pattern.ValueKind != JsonValueKind.Object)
            return null;
        foreach (var entry in pattern.EnumerateObject())
        {
            if (module == entry.Name || module.EndsWith("." + entry.Name, StringComparison.Ordinal))
                return Json.Number(path, pattern, entry.Name);
        }
        return null;
    }
}
