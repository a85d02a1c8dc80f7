using System.Diagnostics;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;

namespace Pcrl.Runtime.Tests.Language;

public sealed class LlmGgufTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    private LlmConfig Validate(string path)
    {
        using var file = GgufFile.Open(path);
        return LlmGguf.Validate(file);
    }

    [Fact]
    public void A_sound_file_gives_its_dimensions()
    {
        var tiny = new TinyLlm();
        var config = Validate(tiny.Save(_folder.File("llm.gguf")));
        Assert.Equal(
            new LlmConfig
            {
                HiddenSize = TinyLlm.Width, IntermediateSize = TinyLlm.FeedForward, NumHiddenLayers = TinyLlm.Layers,
                NumAttentionHeads = TinyLlm.Heads, NumKeyValueHeads = TinyLlm.KeyValueHeads, VocabSize = tiny.Tokens.Count,
                MaxPositionEmbeddings = 512,
            },
            config);
    }

    [Fact]
    public void Tied_embeddings_are_seen()
    {
        var tiny = new TinyLlm();
        tiny.Tensors.Remove("output.weight");
        Assert.True(Validate(tiny.Save(_folder.File("llm.gguf"))).TieWordEmbeddings);
    }

    private static readonly Dictionary<string, Action<TinyLlm>> Faults = new()
    {
        ["architecture"] = t => t.Metadata["general.architecture"] = (w, k) => w.Add(k, "mamba"),
        ["llama.block_count"] = t => t.Metadata.Remove("llama.block_count"),
        ["plain LLaMA-3"] = t => t.Metadata["llama.expert_count"] = (w, k) => w.Add(k, 4u),
        ["'split.count'"] = t => t.Metadata["split.count"] = (w, k) => w.Add(k, 4u),
        ["is not an integer"] = t => t.Metadata["llama.attention.head_count"] = (w, k) => w.Add(k, "4"),
        ["num_attention_heads is 0"] = t => t.Metadata["llama.attention.head_count"] = (w, k) => w.Add(k, 0u),
        ["5 attention heads"] = t => t.Metadata["llama.attention.head_count"] = (w, k) => w.Add(k, 5u),
        ["3 key-value heads"] = t => t.Metadata["llama.attention.head_count_kv"] = (w, k) => w.Add(k, 3u),
        ["num_hidden_layers"] = t => t.Metadata["llama.block_count"] = (w, k) => w.Add(k, uint.MaxValue / 4),
        ["out of range"] = t => t.Metadata["llama.block_count"] = (w, k) => w.Add(k, uint.MaxValue),
        ["rms_norm_eps"] = t => t.Metadata["llama.attention.layer_norm_rms_epsilon"] = (w, k) => w.Add(k, float.NaN),
        ["rope_theta"] = t => t.Metadata["llama.rope.freq_base"] = (w, k) => w.Add(k, 0f),
        ["llama.rope.dimension_count"] = t => t.Metadata["llama.rope.dimension_count"] = (w, k) => w.Add(k, 7u),
        ["llama.vocab_size"] = t => t.Metadata["llama.vocab_size"] = (w, k) => w.Add(k, 5u),
        ["has no tensor blk.1.ffn_up.weight"] = t => t.Tensors.Remove("blk.1.ffn_up.weight"),
        ["[64, 32] was expected"] = t => t.Tensors["blk.0.ffn_up.weight"] = (GgufType.F32, [32, 64]),
        ["norms must be F32"] = t => t.Tensors["output_norm.weight"] = (GgufType.F16, [TinyLlm.Width]),
        ["tensors where"] = t => t.Tensors["blk.7.attn_q.weight"] = (GgufType.F32, [4]),
        ["another tokenizer"] = t => t.Metadata["tokenizer.ggml.model"] = (w, k) => w.Add(k, "llama"),
        ["token types for"] = t => t.Metadata["tokenizer.ggml.token_type"] = (w, k) => w.Add(k, (int[])[1, 1]),
        ["rows of the token embedding"] = t => t.Tokens.Add("extra"),
        ["type 6"] = t => t.Metadata["tokenizer.ggml.token_type"] = (w, k) => w.Add(k, (int[])[.. t.Tokens.Select(_ => 6)]),
        ["empty or stands twice"] = t => t.Tokens[3] = t.Tokens[4],
        ["token 5 is empty"] = t => t.Tokens[5] = "",
        ["byte alphabet"] = t => t.Tokens[6] = "脑 ",
        ["merge"] = t => t.Merges[0] = "abc",
        ["tokenizer.ggml.eos_token_id is outside"] = t => t.Metadata["tokenizer.ggml.eos_token_id"] = (w, k) => w.Add(k, 100000u),
        ["tokenizer.ggml.bos_token_id"] = t => t.Metadata.Remove("tokenizer.ggml.bos_token_id"),
        ["add_bos_token"] = t => t.Metadata["tokenizer.ggml.add_bos_token"] = (w, k) => w.Add(k, "yes"),
    };

    public static TheoryData<string> FaultNames => [.. Faults.Keys];

    [Theory]
    [MemberData(nameof(FaultNames))]
    public void Faults_are_named_before_native_code_sees_the_file(string expected)
    {
        var tiny = new TinyLlm();
        Faults[expected](tiny);
        string path = tiny.Save(_folder.File("llm.gguf"));
        string message = Assert.Throws<InputException>(() => LanguageModel.Load(path, new LanguageOptions())).Message;
        Assert.Contains(expected, message);
        Assert.StartsWith(path, message);
    }

    /// <summary>
    /// Flips bytes of the header; what validation lets pass must not end the process in llama.cpp. That runs in a child process,
    /// because an abort of native code cannot be caught.
    /// </summary>
    [Fact]
    public async Task Damage_that_passes_validation_does_not_abort_llama()
    {
        byte[] whole = File.ReadAllBytes(new TinyLlm().Save(_folder.File("whole.gguf")));
        int headerBytes;
        using (var file = GgufFile.Open(_folder.File("whole.gguf")))
            headerBytes = (int)file.Tensors.Values.Min(t => t.Offset);
        var random = new Random(11);
        var passing = new List<string>();
        for (int round = 0; round < 3000; round++)
        {
            byte[] damaged = (byte[])whole.Clone();
            for (int flips = random.Next(1, 3); flips > 0; flips--)
                damaged[random.Next(headerBytes)] ^= (byte)(1 << random.Next(8));
            string path = _folder.File($"{passing.Count}.gguf");
            File.WriteAllBytes(path, damaged);
            try
            {
                Validate(path);
                if (passing.Count < 200)
                    passing.Add(path);
            }
            catch (InputException)
            {
            }
        }
        Assert.InRange(passing.Count, 20, 200);
        var start = new ProcessStartInfo("dotnet", [typeof(NativeProbe).Assembly.Location, .. passing])
        {
            RedirectStandardOutput = true, RedirectStandardError = true, Environment = { ["GGML_NO_BACKTRACE"] = "1" },
        };
        using var process = Process.Start(start)!;
        var errors = process.StandardError.ReadToEndAsync();
        string output = await process.StandardOutput.ReadToEndAsync();
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 0, $"{output.Split('\n', StringSplitOptions.RemoveEmptyEntries).LastOrDefault()}: {await errors}");
        Assert.Equal(passing.Count, output.Split('\n').Count(line => line.StartsWith("done", StringComparison.Ordinal)));
    }
}
