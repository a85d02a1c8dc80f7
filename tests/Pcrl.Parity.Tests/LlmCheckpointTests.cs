using Pcrl.Convert;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Train.Checkpoints;

namespace Pcrl.Parity.Tests;

/// <summary>Folders that users bring → GGUF, held against the checkpoint by the gate itself.</summary>
public sealed class LlmCheckpointTests : IDisposable
{
    private static readonly LlmConfig Config = SmallLlm.Wide with { NumHiddenLayers = 2 };

    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-test-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string At(string name) => Path.Combine(_folder, name);

    private ParityFigures Convert(string folder, LoraAdapter? adapter = null, ConversionOptions? options = null)
    {
        using var model = LlmCheckpoint.Open(folder);
        return BundleConverter.Convert(model, adapter, At("out.gguf"), options ?? new ConversionOptions());
    }

    private float[] Logits()
    {
        using var model = LanguageModel.Load(At("out.gguf"), new LanguageOptions { Threads = 1 });
        return model.EvaluateTokens([256, .. Enumerable.Range(0, 200)]);
    }

    public static TheoryData<int, bool, bool> Layouts => new() { { 1, false, false }, { 3, true, false }, { 2, false, true } };

    [Theory]
    [MemberData(nameof(Layouts))]
    public void Hugging_face_folders_become_what_they_are(int shards, bool tied, bool scaled)
    {
        var config = Config with { TieWordEmbeddings = tied, RopeScaling = scaled ? new RopeScaling(8, 1, 4, 64) : null };
        string folder = SmallLlm.SaveHuggingFace(At("model"), config, shards);
        using (var model = LlmCheckpoint.Open(folder))
            Assert.Equal(config, model.Config);
        var figures = Convert(folder);
        Assert.Equal(1, figures.Logits.TopTokenAgreement);
        using var file = GgufFile.Open(At("out.gguf"));
        Assert.Equal("{{ messages }}", file.GetString("tokenizer.chat_template"));
        Assert.Equal(scaled, file.Tensors.ContainsKey("rope_freqs.weight"));
    }

    /// <summary>Divisors of LLaMA-3.1-8B: short waves stay, long ones are divided by the factor, and the blend is monotonous.</summary>
    [Fact]
    public void Rope_scaling_is_that_of_llama_3_1()
    {
        float[] divisors = new RopeScaling(8, 1, 4, 8192).Divisors(128, 500000);
        Assert.Equal(64, divisors.Length);
        Assert.All(divisors[..29], d => Assert.Equal(1, d)); // wave of index 28: 1959 positions, under 8192 / 4
        Assert.All(divisors[35..], d => Assert.Equal(8, d)); // wave of index 35: 8211, over 8192 / 1
        for (int i = 29; i < 35; i++)
        {
            double wave = 2 * Math.PI * Math.Pow(500000, i / 64.0), smooth = (8192 / wave - 1) / 3;
            Assert.Equal(1 / ((1 - smooth) / 8 + smooth), divisors[i], 1e-5);
        }
    }

    [Fact]
    public void Scaled_rotation_changes_long_texts()
    {
        Convert(SmallLlm.SaveHuggingFace(At("plain"), Config));
        float[] plain = Logits();
        Convert(SmallLlm.SaveHuggingFace(At("scaled"), Config with { RopeScaling = new RopeScaling(8, 1, 4, 64) }));
        Assert.NotEqual(plain, Logits());
    }

    [Fact]
    public void Metas_layout_gives_the_same_model()
    {
        Convert(SmallLlm.SaveHuggingFace(At("hf"), Config));
        float[] expected = Logits();
        Convert(SaveMeta(At("meta"), Config));
        // The special tokens stand elsewhere; the values of the first tokens are what the rows of the matrices decide.
        Assert.Equal(expected, Logits());
    }

    /// <summary>Names, file and row order of Meta's own checkpoints; q and k from Hugging Face's order by the permutation of its converter.</summary>
    private static string SaveMeta(string folder, LlmConfig config)
    {
        Directory.CreateDirectory(folder);
        var weights = SmallLlm.Weights(config);
        (string, string)[] names =
        [
            ("self_attn.q_proj", "attention.wq"), ("self_attn.k_proj", "attention.wk"), ("self_attn.v_proj", "attention.wv"), ("self_attn.o_proj", "attention.wo"),
            ("mlp.gate_proj", "feed_forward.w1"), ("mlp.down_proj", "feed_forward.w2"), ("mlp.up_proj", "feed_forward.w3"),
            ("input_layernorm", "attention_norm"), ("post_attention_layernorm", "ffn_norm"),
            ("model.embed_tokens", "tok_embeddings"), ("model.norm", "norm"), ("lm_head", "output"), ("model.layers.", "layers."),
        ];
        var writer = new SafetensorsWriter(); // the content decides which reader opens it, not the name
        foreach (var (name, (shape, values)) in weights)
        {
            string meta = names.Aggregate(name, (n, pair) => n.Replace(pair.Item1, pair.Item2));
            float[] ordered = values;
            if (name.Contains("q_proj") || name.Contains("k_proj"))
            {
                int columns = (int)shape[1], half = config.HeadSize / 2;
                ordered = new float[values.Length];
                for (int row = 0; row < shape[0]; row++)
                {
                    int head = row / config.HeadSize, within = row % config.HeadSize;
                    int to = head * config.HeadSize + (within < half ? 2 * within : 2 * (within - half) + 1);
                    values.AsSpan(row * columns, columns).CopyTo(ordered.AsSpan(to * columns));
                }
            }
            writer.AddFloats(meta, shape, () => ordered);
        }
        writer.Save(Path.Combine(folder, "consolidated.00.pth"));
        File.WriteAllText(Path.Combine(folder, "params.json"), FormattableString.Invariant(
            $"{{\"dim\": {config.HiddenSize}, \"n_layers\": {config.NumHiddenLayers}, \"n_heads\": {config.NumAttentionHeads}, \"n_kv_heads\": {config.NumKeyValueHeads}, \"norm_eps\": {config.RmsNormEps}, \"rope_theta\": {config.RopeTheta}, \"vocab_size\": -1}}"));
        File.WriteAllLines(Path.Combine(folder, "tokenizer.model"), Enumerable.Range(0, 256).Select(b => $"{System.Convert.ToBase64String([(byte)b])} {b}"));
        return folder;
    }

    public static TheoryData<string, double> Adapters => new()
    {
        { """{"peft_type": "LORA", "lora_alpha": 32, "bias": "none", "r": 8}""", 4 },
        { """{"peft_type": "LORA", "lora_alpha": 32, "bias": "none", "r": 8, "use_rslora": true}""", 32 / 2.8284271247461903 },
        { """{"peft_type": "LORA", "lora_alpha": 1, "bias": "none", "r": 64, "alpha_pattern": {"q_proj": 32, "v_proj": 32}}""", 4 },
    };

    [Theory]
    [MemberData(nameof(Adapters))]
    public void Peft_folders_are_merged_as_trained(string config, double scale)
    {
        string folder = SmallLlm.SaveHuggingFace(At("model"), Config), adapters = At("adapter");
        var adapter = SmallLlm.Adapter(Config);
        SaveAdapter(adapters, adapter, config);
        var opened = LoraAdapter.Open(adapters);
        Assert.Equal(adapter.Deltas.Keys.Order(), opened.Deltas.Keys.Order());
        Assert.All(opened.Deltas.Values, delta => Assert.Equal(scale, delta.Scale, 1e-5));
        Convert(folder, opened); // the gate holds the merged file against base and adapter side by side
        float[] adapted = Logits();
        Convert(folder);
        Assert.NotEqual(Logits(), adapted);
    }

    private static void SaveAdapter(string folder, LoraAdapter adapter, string config)
    {
        Directory.CreateDirectory(folder);
        var writer = new SafetensorsWriter();
        foreach (var (module, delta) in adapter.Deltas)
        {
            writer.AddFloats($"base_model.model.{module}.lora_A.weight", [delta.Rank, delta.A.Length / delta.Rank], () => delta.A);
            writer.AddFloats($"base_model.model.{module}.lora_B.weight", [delta.B.Length / delta.Rank, delta.Rank], () => delta.B);
        }
        writer.Save(Path.Combine(folder, "adapter_model.safetensors"));
        File.WriteAllText(Path.Combine(folder, "adapter_config.json"), config);
    }

    [Theory]
    [InlineData("peft_type", """{"peft_type": "IA3"}""")]
    [InlineData("bias: all", """{"peft_type": "LORA", "bias": "all"}""")]
    [InlineData("use_dora", """{"peft_type": "LORA", "use_dora": true}""")]
    [InlineData("modules_to_save", """{"peft_type": "LORA", "modules_to_save": ["lm_head"]}""")]
    [InlineData("lacks lora_alpha", """{"peft_type": "LORA"}""")]
    [InlineData("is not JSON", "{")]
    public void Adapters_of_other_kinds_are_refused(string expected, string config)
    {
        SaveAdapter(At("adapter"), SmallLlm.Adapter(Config), config);
        Assert.Contains(expected, Assert.Throws<InputException>(() => LoraAdapter.Open(At("adapter"))).Message);
    }

    [Fact]
    public void An_adapter_for_another_base_is_refused()
    {
        string folder = SmallLlm.SaveHuggingFace(At("model"), Config);
        Assert.Contains("is for another base", Assert.Throws<InputException>(() => Convert(folder, SmallLlm.Adapter(SmallLlm.Wide))).Message);
        Assert.Contains("is for another base", Assert.Throws<InputException>(() => Convert(folder, SmallLlm.Adapter(Config with { HiddenSize = 512, NumAttentionHeads = 8 }))).Message);
        Assert.False(File.Exists(At("out.gguf")));
    }

    [Theory]
    [InlineData("model-00002-of-00003.safetensors: there is no such file", "delete")]
    [InlineData("does not hold it", "move")]
    [InlineData("and again in", "double")]
    [InlineData("not a file beside it", "outside")]
    [InlineData("twice", "index twice")]
    [InlineData("architecture 'mistral'", "mistral")]
    [InlineData("scales the rotary embedding by 'yarn'", "yarn")]
    [InlineData("scales the rotary embedding by ''", "rope array")]
    [InlineData("the configuration asks for", "width")]
    public void Broken_folders_are_refused_by_name(string expected, string fault)
    {
        string folder = SmallLlm.SaveHuggingFace(At("model"), Config, shards: 3);
        string index = Path.Combine(folder, "model.safetensors.index.json"), config = Path.Combine(folder, "config.json");
        void Edit(string path, string from, string to) => File.WriteAllText(path, File.ReadAllText(path).Replace(from, to));
        switch (fault)
        {
            case "delete": File.Delete(Path.Combine(folder, "model-00002-of-00003.safetensors")); break;
            case "move": Edit(index, "\"lm_head.weight\": \"model-00003", "\"lm_head.weight\": \"model-00001"); break;
            case "double": AddTensor(Path.Combine(folder, "model-00001-of-00003.safetensors"), "lm_head.weight"); break;
            case "outside": Edit(index, "model-00002", "../model-00002"); break;
            case "index twice": Edit(index, "{\"weight_map\": {", "{\"weight_map\": {\"lm_head.weight\": \"model-00003-of-00003.safetensors\","); break;
            case "mistral": Edit(config, "\"llama\"", "\"mistral\""); break;
            case "rope array": Edit(config, "\"rope_theta\"", "\"rope_scaling\": [], \"rope_theta\""); break;
            case "yarn": Edit(config, "\"rope_theta\"", "\"rope_scaling\": {\"type\": \"yarn\"}, \"rope_theta\""); break;
            case "width": Edit(config, "\"intermediate_size\": 512", "\"intermediate_size\": 1024"); break;
        }
        string message = Assert.Throws<InputException>(() => Convert(folder)).Message;
        Assert.Contains(expected, message);
        Assert.DoesNotContain('\n', message);
        Assert.Equal([folder], Directory.GetFileSystemEntries(_folder));
    }

    private static void AddTensor(string path, string name)
    {
        var writer = new SafetensorsWriter();
        writer.AddFloats(name, [1], () => [1]);
        using (var file = SafetensorsFile.Open(path))
        {
            foreach (var (other, values) in file.Names.Select(n => (n, file.ReadFloats(n))).ToList())
                writer.AddFloats(other, file.Entry(other).Shape, () => values);
        }
        writer.Save(path);
    }

    [Fact]
    public void Above_a_limit_only_the_figures_name_keeps_the_file()
    {
        // Seeded weights at 4 bits part more than a trained model's.
        string folder = SmallLlm.SaveHuggingFace(At("model"), SmallLlm.Wide);
        var options = new ConversionOptions { LanguageType = LlmType.Q4_K_M };
        var weights = SmallLlm.Weights(SmallLlm.Wide);
        foreach (var (_, (_, values)) in weights.Where(w => w.Key.Contains("lm_head")))
        {
            for (int i = 0; i < values.Length; i++)
                values[i] *= 40;
        }
        SmallLlm.SaveHuggingFace(folder, SmallLlm.Wide, weights: weights);
        string message = Assert.Throws<InputException>(() => Convert(folder, options: options)).Message;
        Assert.Contains("--accept logit_divergence", message);
        Assert.Equal([folder], Directory.GetFileSystemEntries(_folder));
        Assert.Throws<InputException>(() => Convert(folder, options: options with { Accepted = ["logit_divergence"] })); // and the first choices?
        var figures = Convert(folder, options: options with { Accepted = ["logit_divergence", "top_token_agreement"] });
        Assert.InRange(figures.Logits.Divergence, 0.1, 1000);
        Assert.True(File.Exists(At("out.gguf")));
    }
}
