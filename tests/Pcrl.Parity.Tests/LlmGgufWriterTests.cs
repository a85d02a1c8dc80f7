using System.Runtime.InteropServices;
using Pcrl.Convert;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;

namespace Pcrl.Parity.Tests;

/// <summary>What the goldens do not cover of the way from Hugging Face weights to <c>llm.gguf</c>.</summary>
public sealed class LlmGgufWriterTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-test-").FullName;

    private string LlmPath => Path.Combine(_folder, "llm.gguf");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private float[] Logits(LlmCheckpoint model, LlmType type = LlmType.F32)
    {
        LlmGgufWriter.Write(LlmPath, model, adapter: null, type);
        using var loaded = LanguageModel.Load(LlmPath, new LanguageOptions { Threads = 1 });
        return loaded.EvaluateTokens([256, 1, 2, 3, 77, 140]);
    }

    [Theory]
    [InlineData(LlmType.F32, 0)]
    [InlineData(LlmType.F16, 2e-3)]
    [InlineData(LlmType.BF16, 2e-2)]
    [InlineData(LlmType.Q8_0, 4e-2)] // llama.cpp rounds the activations too
    [InlineData(LlmType.Q6_K, 6e-2)]
    [InlineData(LlmType.Q5_K_M, 0.12)]
    [InlineData(LlmType.Q4_K_M, 0.2)]
    public void Smaller_types_stay_close(LlmType type, double tolerance)
    {
        float[] exact = Logits(SmallLlm.InMemory(SmallLlm.Wide)), got = Logits(SmallLlm.InMemory(SmallLlm.Wide), type);
        double error = Math.Sqrt(exact.Zip(got).Sum(p => Math.Pow(p.First - p.Second, 2)) / exact.Sum(v => (double)v * v));
        Assert.InRange(error, type == LlmType.F32 ? 0 : 1e-5, tolerance);
    }

    /// <summary>llama.cpp quantises our F32 file: the same types and the same bytes as ours in one go.</summary>
    [Theory]
    [InlineData(LlmType.Q8_0, false)]
    [InlineData(LlmType.Q6_K, false)]
    [InlineData(LlmType.Q5_K_M, false)]
    [InlineData(LlmType.Q4_K_M, false)]
    [InlineData(LlmType.Q4_K_M, true)]
    public unsafe void Quantised_files_are_those_of_llama_cpp(LlmType type, bool tied)
    {
        var config = SmallLlm.Wide with { TieWordEmbeddings = tied };
        string whole = Path.Combine(_folder, "whole.gguf"), theirs = Path.Combine(_folder, "theirs.gguf");
        LlmGgufWriter.Write(LlmPath, SmallLlm.InMemory(config), adapter: null, type);
        LlmGgufWriter.Write(whole, SmallLlm.InMemory(config), adapter: null);
        nint library = NativeLibrary.Load(Directory.GetFiles(Path.Combine(AppContext.BaseDirectory, "native", "llama"), "libllama*.so").Single());
        byte* parameters = stackalloc byte[1024];
        ((delegate* unmanaged[Cdecl]<byte*, void*>)NativeLibrary.GetExport(library, "llama_model_quantize_default_params"))(parameters);
        using (var ours = GgufFile.Open(LlmPath))
            ((int*)parameters)[1] = (int)ours.GetInteger("general.file_type");
        var quantise = (delegate* unmanaged[Cdecl]<nint, nint, byte*, uint>)NativeLibrary.GetExport(library, "llama_model_quantize");
        nint from = Marshal.StringToCoTaskMemUTF8(whole), to = Marshal.StringToCoTaskMemUTF8(theirs);
        Assert.Equal(0u, quantise(from, to, parameters));
        Marshal.FreeCoTaskMem(from);
        Marshal.FreeCoTaskMem(to);

        using var expected = GgufFile.Open(theirs);
        using var got = GgufFile.Open(LlmPath);
        foreach (var tensor in expected.Tensors.Values)
        {
            Assert.Equal((tensor.Name, tensor.Type), (tensor.Name, got.Tensor(tensor.Name).Type));
            for (long row = 0; row < tensor.ElementCount / tensor.Shape[^1]; row++)
                Assert.True(expected.RowBytes(tensor, row).SequenceEqual(got.RowBytes(got.Tensor(tensor.Name), row)), $"{tensor.Name}, row {row}");
        }
        Assert.Equal(expected.Tensors.Count, got.Tensors.Count);
    }

    [Fact]
    public void Tied_embeddings_equal_an_output_layer_of_the_same_values()
    {
        var weights = SmallLlm.Weights(SmallLlm.Narrow);
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"];
        var model = SmallLlm.InMemory(SmallLlm.Narrow) with { Weights = new MemoryTensors(weights) };
        Assert.Equal(Logits(model), Logits(model with { Config = model.Config with { TieWordEmbeddings = true } }));
    }

    [Fact]
    public void What_does_not_fit_is_refused_and_leaves_no_file()
    {
        var model = SmallLlm.InMemory(SmallLlm.Narrow);
        LlmCheckpoint With(string name, long[] shape, Action<float[]>? change = null)
        {
            var weights = SmallLlm.Weights(SmallLlm.Narrow);
            float[] values = [.. Enumerable.Range(0, (int)shape.Aggregate(1L, (a, b) => a * b)).Select(i => weights[name].Values[i])];
            change?.Invoke(values);
            weights[name] = (shape, values);
            return model with { Weights = new MemoryTensors(weights) };
        }
        LoraAdapter Adapter(string module, int rank, int a, int b) =>
            new("adapter", new Dictionary<string, LoraDelta> { [module] = new(rank, 1, new float[a], new float[b]) });
        const string q = "model.layers.0.self_attn.q_proj";
        foreach (var (expected, write) in (IEnumerable<(string, Action)>)[
            ("258 tokens for 259", () => LlmGgufWriter.Write(LlmPath, model with { Config = model.Config with { VocabSize = 259 } }, null)),
            ("impossible model", () => LlmGgufWriter.Write(LlmPath, model with { Config = model.Config with { NumAttentionHeads = 3 } }, null)),
            ("has no tensor model.layers.1", () => LlmGgufWriter.Write(LlmPath, model with { Config = model.Config with { NumHiddenLayers = 2 } }, null)),
            ("q_proj.weight has shape [8, 32], the configuration asks for [16, 16]", () => LlmGgufWriter.Write(LlmPath, With(q + ".weight", [8, 32]), null)),
            ("q_proj.weight holds NaN", () => LlmGgufWriter.Write(LlmPath, With(q + ".weight", [16, 16], v => v[37] = float.NaN), null)),
            ("norm.weight holds NaN", () => LlmGgufWriter.Write(LlmPath, With("model.norm.weight", [16], v => v[3] = float.PositiveInfinity), null)),
            ("beyond what F16 can", () => LlmGgufWriter.Write(LlmPath, With(q + ".weight", [16, 16], v => v[37] = 7e4f), null, LlmType.F16)),
            ("adapts model.layers.5.mlp.up_proj", () => LlmGgufWriter.Write(LlmPath, model, Adapter("model.layers.5.mlp.up_proj", 2, 32, 48))),
            ("would be [32, 16], this model's is [16, 16]", () => LlmGgufWriter.Write(LlmPath, model, Adapter(q, 2, 32, 64)))])
        {
            string message = Assert.Throws<InputException>(write).Message;
            Assert.Contains(expected, message);
            Assert.Empty(Directory.GetFiles(_folder));
        }
    }
}
