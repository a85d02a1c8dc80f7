using Pcrl.Convert;
using Pcrl.Runtime.Language;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Text;

namespace Pcrl.Parity.Tests;

/// <summary>LLaMA models of seeded weights, in memory and as Hugging Face folders.</summary>
internal static class SmallLlm
{
    /// <summary>Wide enough for blocks of 256, deep enough for every choice of the mixed types.</summary>
    public static readonly LlmConfig Wide = new()
    {
        HiddenSize = 256, IntermediateSize = 512, NumHiddenLayers = 8, NumAttentionHeads = 4, NumKeyValueHeads = 2, VocabSize = 512,
        MaxPositionEmbeddings = 512,
    };

    public static readonly LlmConfig Narrow = new()
    {
        HiddenSize = 16, IntermediateSize = 24, NumHiddenLayers = 1, NumAttentionHeads = 2, NumKeyValueHeads = 1, VocabSize = 258, MaxPositionEmbeddings = 64,
    };

    /// <summary>The bytes, made-up tokens up to the vocabulary, and two special tokens.</summary>
    public static TokenizerData Tokenizer(int count) => new(
        [.. TokenizerData.ByteAlphabet.Select(c => $"{c}"), .. Enumerable.Range(0, count - 258).Select(i => $"<{i}>")], [],
        [TokenizerData.BosToken, TokenizerData.EosToken]);

    /// <summary>Shapes of all weights by Hugging Face's names.</summary>
    public static Dictionary<string, long[]> Shapes(LlmConfig config)
    {
        long d = config.HiddenSize, f = config.IntermediateSize, kv = (long)config.NumKeyValueHeads * config.HeadSize;
        var shapes = new Dictionary<string, long[]> { ["model.embed_tokens.weight"] = [config.VocabSize, d] };
        for (int layer = 0; layer < config.NumHiddenLayers; layer++)
        {
            foreach (var (name, shape) in (IEnumerable<(string, long[])>)[
                ("input_layernorm", [d]), ("post_attention_layernorm", [d]),
                ("self_attn.q_proj", [d, d]), ("self_attn.k_proj", [kv, d]), ("self_attn.v_proj", [kv, d]), ("self_attn.o_proj", [d, d]),
                ("mlp.gate_proj", [f, d]), ("mlp.up_proj", [f, d]), ("mlp.down_proj", [d, f])])
                shapes[$"model.layers.{layer}.{name}.weight"] = shape;
        }
        shapes["model.norm.weight"] = [d];
        if (!config.TieWordEmbeddings)
            shapes["lm_head.weight"] = [config.VocabSize, d];
        return shapes;
    }

    /// <summary>Seeded weights: norms around 1, matrices that keep the length of a row.</summary>
    public static Dictionary<string, (long[] Shape, float[] Values)> Weights(LlmConfig config, ulong seed = 9) =>
        Shapes(config).ToDictionary(s => s.Key, s => (s.Value, s.Value.Length == 1
            ? GoldenCase.Fill(seed, s.Key, config.HiddenSize, "lin", 0.1, 1)
            : GoldenCase.Fill(seed, s.Key, s.Value[0] * s.Value[1], "lin", 1.7 / Math.Sqrt(s.Value[1]), 0)));

    public static LlmCheckpoint InMemory(LlmConfig config, ulong seed = 9) =>
        new("test", config, new MemoryTensors(Weights(config, seed)), Tokenizer(config.VocabSize), ChatTemplate: null, Files: []);

    public static LoraAdapter Adapter(LlmConfig config, ulong seed = 10) => new("adapter", Enumerable.Range(0, config.NumHiddenLayers)
        .SelectMany(layer => (IEnumerable<(string, int)>)[
            ($"model.layers.{layer}.self_attn.q_proj", config.HiddenSize), ($"model.layers.{layer}.self_attn.v_proj", config.NumKeyValueHeads * config.HeadSize)])
        .ToDictionary(m => m.Item1, m => new LoraDelta(
            8, 4, GoldenCase.Fill(seed, m.Item1 + ".A", 8 * config.HiddenSize, "lin", 0.05, 0), GoldenCase.Fill(seed, m.Item1 + ".B", 8 * m.Item2, "lin", 0.05, 0))));

    /// <summary>Writes Hugging Face's layout, in <paramref name="shards"/> files or one.</summary>
    public static string SaveHuggingFace(string folder, LlmConfig config, int shards = 1, IReadOnlyDictionary<string, (long[] Shape, float[] Values)>? weights = null)
    {
        Directory.CreateDirectory(folder);
        weights ??= Weights(config);
        string[] files = [.. Enumerable.Range(1, shards).Select(i => shards == 1 ? "model.safetensors" : $"model-{i:00000}-of-{shards:00000}.safetensors")];
        var map = new List<string>();
        foreach (var (file, part) in files.Zip(weights.Chunk((weights.Count + shards - 1) / shards)))
        {
            var writer = new SafetensorsWriter();
            foreach (var (name, (shape, values)) in part)
            {
                writer.AddFloats(name, shape, () => values);
                map.Add($"\"{name}\": \"{file}\"");
            }
            writer.Save(Path.Combine(folder, file));
        }
        if (shards > 1)
            File.WriteAllText(Path.Combine(folder, "model.safetensors.index.json"), $"{{\"weight_map\": {{{string.Join(',', map)}}}}}");
        SaveSettings(folder, config);
        return folder;
    }

    /// <summary>Everything of the layout but the weights; config.json last.</summary>
    public static void SaveSettings(string folder, LlmConfig config)
    {
        Tokenizer(config.VocabSize).Save(Path.Combine(folder, "tokenizer.json"));
        File.WriteAllText(Path.Combine(folder, "tokenizer_config.json"), """{"chat_template": "{{ messages }}"}""");
        File.WriteAllText(Path.Combine(folder, "config.json"), FormattableString.Invariant($$"""
            {
              "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "attention_bias": false,
              "hidden_size": {{config.HiddenSize}}, "intermediate_size": {{config.IntermediateSize}}, "num_hidden_layers": {{config.NumHiddenLayers}},
              "num_attention_heads": {{config.NumAttentionHeads}}, "num_key_value_heads": {{config.NumKeyValueHeads}}, "vocab_size": {{config.VocabSize}},
              "max_position_embeddings": {{config.MaxPositionEmbeddings}}, "rope_theta": {{config.RopeTheta}}, "rms_norm_eps": {{config.RmsNormEps}},
              "tie_word_embeddings": {{(config.TieWordEmbeddings ? "true" : "false")}}{{Scaling(config)}}
            }
            """));
    }

    private static string Scaling(LlmConfig config) => config.RopeScaling is not { } s ? "" : FormattableString.Invariant(
        $", \"rope_scaling\": {{\"rope_type\": \"llama3\", \"factor\": {s.Factor}, \"low_freq_factor\": {s.LowFreqFactor}, \"high_freq_factor\": {s.HighFreqFactor}, \"original_max_position_embeddings\": {s.OriginalMaxPositionEmbeddings}}}");
}
