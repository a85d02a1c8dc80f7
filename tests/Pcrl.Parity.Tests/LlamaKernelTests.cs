using Pcrl.Convert;
using Pcrl.Kernels.Llm;
using Pcrl.Runtime.Language;
using Pcrl.Runtime.Language.Native;

namespace Pcrl.Parity.Tests;

/// <summary>Alone in the process: it switches kernels, which must not happen while anything is computed.</summary>
[CollectionDefinition(nameof(LlamaKernelTests), DisableParallelization = true)]
public sealed class AloneCollection;

/// <summary>Our kernels inside llama.cpp against llama.cpp's own, over whole models.</summary>
[Collection(nameof(LlamaKernelTests))]
public sealed class LlamaKernelTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-test-").FullName;

    public void Dispose()
    {
        LlamaKernels.Enabled = true;
        Directory.Delete(_folder, recursive: true);
    }

    private LanguageModel Load(LlmType type, int threads = 1, int layers = 1)
    {
        string path = Path.Combine(_folder, $"{type}.gguf");
        LlmGgufWriter.Write(path, SmallLlm.InMemory(SmallLlm.Wide with { NumHiddenLayers = layers }), adapter: null, type);
        return LanguageModel.Load(path, new LanguageOptions { Threads = threads });
    }

    [Theory]
    [InlineData(LlmType.Q4_K_M)]
    [InlineData(LlmType.Q6_K)]
    [InlineData(LlmType.F32)]
    public void Logits_are_llama_cpps_but_for_the_order_of_sums(LlmType type)
    {
        using var model = Load(type);
        foreach (int rows in (int[])[1, 2, 3, 4, 5, 6, 7, 8, 13, 16, 31, 32, 33, 40, 65])
        {
            int[] tokens = [.. Enumerable.Range(0, rows).Select(i => 3 + 37 * i % 400)];
            LlamaKernels.Enabled = false;
            float[] theirs = model.EvaluateTokens(tokens);
            LlamaKernels.Enabled = true;
            float[] ours = model.EvaluateTokens(tokens);
            double size = theirs.Sum(v => (double)v * v), error = theirs.Zip(ours).Sum(p => Math.Pow(p.First - p.Second, 2));
            // A sum that falls to the other side of a rounding changes an activation's integer by one: more than the order of sums does, and seldom.
            Assert.True(Math.Sqrt(error / size) < (type == LlmType.F32 ? 1e-5 : 2e-3), $"{rows} rows: {Math.Sqrt(error / size)}");
            Assert.Equal(LlamaKernels.Problem is not null, error == 0); // else ours were not called
        }
    }

    /// <summary>Else a near tie between two tokens could fall one way where a text has a draft and the other where it has none.</summary>
    [SkippableTheory]
    [InlineData(LlmType.Q4_K_M, 1)]
    [InlineData(LlmType.Q4_K_M, 2)]
    [InlineData(LlmType.Q6_K, 1)]
    [InlineData(LlmType.F32, 1)]
    [InlineData(LlmType.F32, 2)]
    public unsafe void A_row_gives_the_same_bits_alone_and_among_others(LlmType type, int threads)
    {
        const int Prompt = 60, Others = 11;
        using var model = Load(type, threads, layers: 4);
        Skip.IfNot(LlamaKernels.Problem is null, $"own kernels are not in use: {LlamaKernels.Problem}");
        using var context = LlamaContextHandle.Create(model, new LlamaContextSize(Length: 128, Sequences: 2, Rows: 128, Outputs: 2 * (1 + Others)));
        using var rows = new LlamaRows(128, model.Width);
        nint memory = LlamaNative.Memory(context);
        for (int seed = 0; seed < 12; seed++)
        {
            LlamaNative.ClearMemory(memory, data: true);
            Decode(seed, (0, Prompt, 0), (1, Prompt, 0));
            float[] alone = Decode(seed, (0, 1, Prompt));
            for (int others = 1; others <= Others; others += 2)
            {
                Assert.Equal(alone, Decode(seed, (0, 1 + others, Prompt)));
                Assert.Equal(alone, Decode(seed, (0, 1, Prompt), (1, others, Prompt)));
                Assert.Equal(alone, Decode(seed, (0, 1 + others, Prompt), (1, 1 + others, Prompt)));
            }
        }

        float[] Decode(int seed, params ReadOnlySpan<(int Sequence, int Count, int From)> texts) => LlamaKernelTests.Decode(model, context, rows, Prompt, seed, texts)[0];
    }

    /// <summary>With the cache in half precision, as texts are written: prompts of two texts at once, then a few rows of each.</summary>
    [SkippableFact]
    public unsafe void Attention_is_llama_cpps_but_for_the_rounding_of_queries()
    {
        const int Prompt = 60;
        using var model = Load(LlmType.F32, layers: 2);
        Skip.IfNot(LlamaKernels.Problem is null, $"own kernels are not in use: {LlamaKernels.Problem}");
        using var context = LlamaContextHandle.Create(model, new LlamaContextSize(Length: 128, Sequences: 2, Rows: 128, Outputs: 128));
        using var rows = new LlamaRows(128, model.Width);
        for (int more = 1; more <= 7; more += 3)
        {
            var (theirs, ours) = (Logits(false), Logits(true));
            Assert.Equal(2 + 2 * more, ours.Length);
            foreach (var (their, our) in theirs.Zip(ours))
            {
                double error = Math.Sqrt(their.Zip(our).Sum(p => Math.Pow(p.First - p.Second, 2)) / their.Sum(v => (double)v * v));
                Assert.InRange(error, 1e-8, 2e-3);
            }

            float[][] Logits(bool own)
            {
                LlamaKernels.Enabled = own;
                LlamaNative.ClearMemory(LlamaNative.Memory(context), data: true);
                return [.. Decode(model, context, rows, Prompt, more, (0, Prompt, 0), (1, Prompt, 0)), .. Decode(model, context, rows, Prompt, more, (0, more, Prompt), (1, more, Prompt))];
            }
        }
    }

    /// <summary>
    /// Reads made-up rows of sequences from a position on and forgets those behind the prompt. The logits of each first row and of all behind the prompt.
    /// </summary>
    private static unsafe float[][] Decode(
        LanguageModel model, LlamaContextHandle context, LlamaRows rows, int prompt, int seed, params ReadOnlySpan<(int Sequence, int Count, int From)> texts)
    {
        rows.Clear();
        var outputs = new List<int>();
        foreach (var (sequence, count, from) in texts)
        {
            for (int position = from; position < from + count; position++)
            {
                bool output = position >= prompt || position == from;
                if (output)
                    outputs.Add(rows.Count);
                var random = new Random(1000 * seed + 2 * position + sequence);
                foreach (ref float value in rows.Add(sequence, position, output))
                    value = (float)random.NextDouble() - 0.5f;
            }
        }
        context.Decode(rows.Batch);
        float[][] logits = [.. outputs.Select(row => context.Logits(row, model.Config.VocabSize).ToArray())];
        foreach (var (sequence, _, _) in texts)
            LlamaNative.Forget(LlamaNative.Memory(context), sequence, prompt, -1);
        return logits;
    }

    [Fact]
    public void Kernels_are_in_use_wherever_the_processor_has_the_instructions()
    {
        using var model = Load(LlmType.Q4_K_M);
        Assert.Equal(QuantisedRows.IsSupported, LlamaKernels.Problem is null);
        Assert.Contains(QuantisedRows.IsSupported ? "own kernels for Q4_K and Q6_K" : "no AVX2", model.Choice);
        using var floats = Load(LlmType.F32);
        Assert.Contains(QuantisedRows.IsSupported ? "own kernels for F32" : "no AVX2", floats.Choice);
        using var plain = Load(LlmType.BF16);
        Assert.DoesNotContain("own kernels", plain.Choice);
    }

    [Theory]
    [InlineData(LlmType.Q4_K_M)]
    [InlineData(LlmType.F32)]
    public void Greedy_texts_are_the_same_with_and_without_drafts(LlmType type)
    {
        using var model = Load(type);
        using var plain = Decoder(speculation: false);
        using var drafting = Decoder(speculation: true);
        int saved = 0;
        for (int seed = 0; seed < 20; seed++)
        {
            var random = new Random(seed);
            float[] visual = [.. Enumerable.Range(0, 3 * model.Width).Select(_ => (float)(random.NextDouble() - 0.5))];
            var (alone, drafted) = (Write(plain, visual), Write(drafting, visual));
            Assert.Equal(alone.Text, drafted.Text);
            saved += alone.Summary.Steps - drafted.Summary.Steps;
        }
        Assert.True(saved > 20, $"{saved} batches saved"); // else hardly a batch had two rows

        BatchDecoder Decoder(bool speculation) => new(model, new("ab", "cd"), new DecodingOptions { Speculation = speculation, WholeDrafts = true });

        (string Text, GenerationSummary Summary) Write(BatchDecoder decoder, float[] visual)
        {
            decoder.WaitUntilReady();
            GeneratedPiece[] pieces = [.. decoder.GenerateAsync(visual, new SamplingOptions { Temperature = 0, MaxTokens = 60 }).ToBlockingEnumerable()];
            return (string.Concat(pieces.Select(piece => piece.Text)), pieces[^1].Summary!);
        }
    }
}
