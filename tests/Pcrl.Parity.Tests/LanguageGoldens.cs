using Pcrl.Runtime.Bundles;
using System.Text.Json;
using Pcrl.Convert;
using Pcrl.Runtime.Language;
using Pcrl.Train.Text;

namespace Pcrl.Parity.Tests;

/// <summary>The runtime's language path against the goldens: sampling, and Hugging Face weights → GGUF → llama.cpp.</summary>
internal static class LanguageGoldens
{
    private static readonly JsonSerializerOptions SnakeCase = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    public static void SamplingFilter(GoldenCase golden)
    {
        int index = 0;
        foreach (var sub in golden.Config.GetProperty("sub").EnumerateArray())
        {
            float[] logits = golden.Floats($"in.{index}.logits");
            var options = new SamplingOptions { Temperature = sub.GetProperty("temperature").GetSingle(), TopP = sub.GetProperty("top_p").GetSingle() };
            var kept = new Sampler(options).Filter(logits);
            Assert.Equal(golden.Integers($"out.{index}.n_kept")[0], kept.Length);
            var mask = new long[logits.Length];
            var probabilities = new float[logits.Length];
            foreach (var (token, probability) in kept)
                (mask[token], probabilities[token]) = (1, (float)probability);
            Assert.Equal(golden.Integers($"out.{index}.kept"), mask);
            golden.AssertOutput($"{index}.probs", probabilities);
            index++;
        }
    }

    public static void LlamaForward(GoldenCase golden)
    {
        WithModel(golden, adapter: null, model => AssertForward(golden, model));
        QuantisedStaysClose(golden, adapter: null);
    }

    private static void AssertForward(GoldenCase golden, LanguageModel model)
    {
        int[] tokens = Tokens(golden);
        golden.AssertOutput("logits", model.EvaluateTokens(tokens));
        golden.AssertOutput("logits", model.EvaluateEmbeddings(model.Embed(tokens)));

        float[] prefix = [.. golden.Filled("filled_inputs")["input.visual_embeds"].Values, .. model.Embed(tokens)];
        float[] logits = model.EvaluateEmbeddings(prefix);
        int row = model.Config.VocabSize;
        golden.AssertOutput("prefix.logits_first4", logits.AsSpan(0, 4 * row));
        golden.AssertOutput("prefix.logits_last8", logits.AsSpan(^(8 * row)..));

        // Greedy continuation by prefill of the embeddings and decoding token by token, as a report is written.
        long[] expected = golden.Integers("out.prefix.greedy_ids");
        var options = new SamplingOptions { Temperature = 0, MaxTokens = expected.Length };
        string text = "";
        using var decoder = new BatchDecoder(model, new PromptTemplate("", ""), new DecodingOptions());
        foreach (var piece in decoder.GenerateAsync(prefix, options).ToBlockingEnumerable())
            text += piece.Text;
        Assert.Equal(model.Detokenize([.. expected.Select(t => (int)t)]), text);
    }

    public static void LlamaLora(GoldenCase golden)
    {
        var settings = golden.Config.GetProperty("lora");
        using var weights = new MemoryTensors(golden.Filled("weights"));
        var adapter = LoraAdapter.FromTensors(
            golden.Name, weights, weights.Names.Where(name => name.Contains(".lora_")), _ => (settings.GetProperty("alpha").GetSingle(), false));
        WithModel(golden, adapter, model =>
        {
            float[] logits = model.EvaluateTokens(Tokens(golden));
            golden.AssertOutput("logits", logits);
            golden.AssertOutput("merged_logits_last4", logits.AsSpan(^(4 * model.Config.VocabSize)..));
        });
        WithModel(golden, adapter: null, model => golden.AssertOutput(
            "base_logits_without_lora_last", model.EvaluateTokens(Tokens(golden)).AsSpan(^model.Config.VocabSize..)));
        QuantisedStaysClose(golden, adapter);
    }

    /// <summary>Seeded weights are flat and their logits wide, so that rounding shows more than in a trained model.</summary>
    private static void QuantisedStaysClose(GoldenCase golden, LoraAdapter? adapter)
    {
        float[] exact = [];
        WithModel(golden, adapter, model => exact = model.EvaluateTokens(Tokens(golden))); // held to the golden above
        foreach (var (type, divergence, agreement) in (ReadOnlySpan<(LlmType, double, double)>)[(LlmType.Q8_0, 0.01, 0.85), (LlmType.Q4_K_M, 0.5, 0.5)])
        {
            WithModel(golden, adapter, model =>
            {
                var figures = LogitFigures.Compare(exact, model.EvaluateTokens(Tokens(golden)), model.Config.VocabSize);
                Console.WriteLine($"{golden.Name} {type}: KL {figures.Divergence:g3}, top-1 {figures.TopTokenAgreement:p1} of {figures.Positions}");
                Assert.InRange(figures.Divergence, 0, divergence);
                Assert.InRange(figures.TopTokenAgreement, agreement, 1);
            }, type);
        }
    }

    private static int[] Tokens(GoldenCase golden) => [.. golden.Integers("in.tokens").Select(t => (int)t)];

    private static void WithModel(GoldenCase golden, LoraAdapter? adapter, Action<LanguageModel> check, LlmType type = LlmType.F32)
    {
        string path = Path.Combine(Path.GetTempPath(), $"pcrl-{golden.Name}-{Guid.NewGuid():N}.gguf");
        var config = golden.Config.Deserialize<LlmConfig>(SnakeCase)!;
        using var weights = new MemoryTensors(golden.Filled("weights"));
        var checkpoint = new LlmCheckpoint(golden.Name, config, weights, Numbered(config.VocabSize), ChatTemplate: null, Files: []);
        try
        {
            LlmGgufWriter.Write(path, checkpoint, adapter, type);
            using var model = LanguageModel.Load(path, new LanguageOptions { Threads = 1 });
            check(model);
        }
        finally
        {
            File.Delete(path);
        }
    }

    /// <summary>The cases come without a tokenizer: token 17 is spelt <c>&lt;17&gt;</c>, so that texts tell tokens apart.</summary>
    private static TokenizerData Numbered(int count) => new(
        [.. Enumerable.Range(0, count - 2).Select(id => $"<{id}>")], [], [TokenizerData.BosToken, TokenizerData.EosToken]);
}
