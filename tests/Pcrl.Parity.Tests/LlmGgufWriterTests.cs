using Pcrl.Convert;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Train.Text;

namespace Pcrl.Parity.Tests;

/// <summary>What the goldens do not cover of the way from Hugging Face weights to <c>llm.gguf</c>.</summary>
public sealed class LlmGgufWriterTests : IDisposable
{
    private static readonly LlmConfig Config = new()
    {
        HiddenSize = 16, IntermediateSize = 24, NumHiddenLayers = 1, NumAttentionHeads = 2, NumKeyValueHeads = 1, VocabSize = 10, MaxPositionEmbeddings = 64,
    };

    private static readonly TokenizerData Tokenizer = new([.. "abcdefgh".Select(c => $"{c}")], [], [TokenizerData.BosToken, TokenizerData.EosToken]);

    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-test-").FullName;

    private string LlmPath => Path.Combine(_folder, "llm.gguf");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static float[] Weights(string name)
    {
        int d = Config.HiddenSize, f = Config.IntermediateSize;
        int count = name.Split('.')[^2] switch
        {
            "embed_tokens" or "lm_head" => Config.VocabSize * d,
            "q_proj" or "o_proj" => d * d,
            "k_proj" or "v_proj" => d * d / 2,
            "gate_proj" or "up_proj" or "down_proj" => f * d,
            _ => d,
        };
        return GoldenCase.Fill(9, name, count, "lin", count == d ? 0.1 : 0.4, count == d ? 1 : 0);
    }

    [Theory]
    [InlineData(GgufType.F32, 0)]
    [InlineData(GgufType.F16, 2e-3)]
    [InlineData(GgufType.BF16, 2e-2)]
    public void Half_precision_stays_close(GgufType type, double tolerance)
    {
        float[] Logits(GgufType stored)
        {
            LlmGgufWriter.Write(LlmPath, "test", Config, Weights, null, Tokenizer, stored, chatTemplate: "{{ messages }}");
            using var model = LanguageModel.Load(LlmPath, new LanguageOptions { Threads = 1 });
            return model.EvaluateTokens([8, 1, 2, 3]);
        }
        float[] exact = Logits(GgufType.F32), got = Logits(type);
        double error = Math.Sqrt(exact.Zip(got).Sum(p => Math.Pow(p.First - p.Second, 2)) / exact.Sum(v => (double)v * v));
        Assert.InRange(error, 0, tolerance);
    }

    [Fact]
    public void Tied_embeddings_equal_an_output_layer_of_the_same_values()
    {
        float[] Logits(LlmConfig config, Func<string, float[]> weights)
        {
            LlmGgufWriter.Write(LlmPath, "test", config, weights, null, Tokenizer);
            using var model = LanguageModel.Load(LlmPath, new LanguageOptions { Threads = 1 });
            return model.EvaluateTokens([8, 1, 2]);
        }
        Assert.Equal(
            Logits(Config, name => Weights(name.Replace("lm_head", "model.embed_tokens"))),
            Logits(Config with { TieWordEmbeddings = true }, Weights));
    }

    [Fact]
    public void What_does_not_fit_is_refused_and_leaves_no_file()
    {
        var halfAdapter = new LoraAdapter(2, 4, name => name.EndsWith("q_proj.lora_A.weight", StringComparison.Ordinal) ? new float[32] : null);
        var wrongRank = new LoraAdapter(3, 4, name => name.Contains("q_proj") ? new float[32] : null);
        foreach (var (expected, write) in (IEnumerable<(string, Action)>)[
            ("10 tokens for 11", () => LlmGgufWriter.Write(LlmPath, "test", Config with { VocabSize = 11 }, Weights, null, Tokenizer)),
            ("impossible model", () => LlmGgufWriter.Write(LlmPath, "test", Config with { NumAttentionHeads = 3 }, Weights, null, Tokenizer)),
            ("values, 256 are needed", () => LlmGgufWriter.Write(LlmPath, "test", Config, name => name.Contains("q_proj") ? [1] : Weights(name), null, Tokenizer)),
            ("lacks base_model", () => LlmGgufWriter.Write(LlmPath, "test", Config, Weights, halfAdapter, Tokenizer)),
            ("q_proj.lora_A has 32 values, 48", () => LlmGgufWriter.Write(LlmPath, "test", Config, Weights, wrongRank, Tokenizer))])
        {
            Assert.Contains(expected, Assert.Throws<InputException>(write).Message);
            Assert.Empty(Directory.GetFiles(_folder));
        }
    }
}
