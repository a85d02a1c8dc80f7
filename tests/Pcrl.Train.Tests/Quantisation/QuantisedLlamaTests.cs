using Pcrl.Runtime;
using Pcrl.Runtime.Language;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Models;
using Pcrl.Train.Quantisation;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Tests.Quantisation;

[Collection("torch")]
public class QuantisedLlamaTests
{
    private static readonly LlmConfig Config = new()
    {
        VocabSize = 20, HiddenSize = 64, IntermediateSize = 96, NumHiddenLayers = 3, NumAttentionHeads = 4, NumKeyValueHeads = 2,
    };

    private static readonly LoraConfig Lora = new() { R = 2, LoraDropout = 0.2f };

    private static readonly long[][] Sequences = [[1, PackedRows.VisualSlot, 2, 3, 4, 5], [6, 7, 8], [9, 10, 11], [12, 13]];

    [Theory]
    [InlineData(8, 64)]
    [InlineData(3, 37)] // a last block of a few values, an odd number of codes
    [InlineData(260, 129)] // more than one block of scales
    public void What_a_GPU_would_dequantise_is_the_same_to_the_bit(int outputs, int inputs)
    {
        var random = new Random(outputs);
        using var weight = new Nf4Weight(outputs, inputs);
        weight.Set([.. Enumerable.Range(0, outputs * inputs).Select(_ => (float)(random.NextDouble() - 0.5))]);
        foreach (var type in (ScalarType[])[ScalarType.Float32, ScalarType.BFloat16])
        {
            using var scope = NewDisposeScope();
            Assert.Equal(Weights.Floats(weight.Dequantise(type)), Weights.Floats(weight.DequantiseByTorch(type)));
        }
    }

    /// <summary>A model over compressed weights, and a float32 one over exactly the values that they stand for.</summary>
    private static (Llama Compressed, Llama Plain) Create(BaseWeights kind)
    {
        TorchDevice.Configure(threads: 1, seed: 5);
        var compressed = new Llama(Config, Lora, kind);
        compressed.RandomiseBase(7);
        var plain = new Llama(Config, Lora);
        using var nothing = no_grad();
        var adapters = compressed.named_parameters().ToDictionary(p => p.name, p => p.parameter);
        foreach (var (name, parameter) in plain.named_parameters())
        {
            if (name.Contains("lora_"))
                parameter.copy_(adapters[name].normal_(0, 0.1));
            else if (adapters.TryGetValue(name, out var same))
                parameter.copy_(same);
        }
        foreach (var (name, module) in plain.named_modules())
        {
            if (module is LoraLinear to)
            {
                var from = (LoraLinear)compressed.named_modules().Single(m => m.name == name).module;
                to.SetBase(Weights.Floats(from.Base(ScalarType.Float32)));
            }
        }
        foreach (var model in new[] { compressed, plain })
        {
            foreach (var (name, parameter) in model.named_parameters())
                parameter.requires_grad = name.Contains("lora_");
        }
        return (compressed, plain);
    }

    private static (float Loss, float[][] Gradients) Step(Llama llama, ScalarType type)
    {
        using var scope = NewDisposeScope();
        TorchDevice.SeedThread(11); // the same dropout
        var rows = PackedRows.Of(Sequences);
        var embeddings = rows.Embeddings(llama, arange(Config.HiddenSize, ScalarType.Float32).unsqueeze(0) / 64).to(float32).detach().requires_grad_();
        var loss = llama.Logits(llama.Hidden(rows, embeddings.to(type))).square().mean();
        rand(3, generator: TorchDevice.Random); // what is drawn between forward and backward does not disturb the recomputation
        loss.backward();
        var adapters = llama.named_parameters().Where(p => p.name.Contains("lora_")).Select(p => p.parameter).ToList();
        var result = (loss.item<float>(), (float[][])[Weights.Floats(embeddings.grad!), .. adapters.Select(p => Weights.Floats(p.grad!))]);
        foreach (var adapter in adapters)
            adapter.grad!.zero_();
        return result;
    }

    [Theory]
    [InlineData(BaseWeights.Nf4)]
    [InlineData(BaseWeights.Bfloat16)]
    public void Compressed_weights_give_the_loss_and_gradients_of_the_values_they_stand_for(BaseWeights kind)
    {
        using var scope = NewDisposeScope();
        var (compressed, plain) = Create(kind);
        using (compressed)
        using (plain)
        {
            compressed.train();
            plain.train();
            var expected = Step(plain, float32);
            var got = Step(compressed, float32);
            Assert.Equal(expected.Loss, got.Loss, 1e-5f * expected.Loss);
            foreach (var (a, b) in expected.Gradients.Zip(got.Gradients))
                Assert.True(Distance(a, b) < 1e-5, $"{Distance(a, b)}");
            got = Step(compressed, ScalarType.BFloat16); // 8 bits of every intermediate value
            Assert.Equal(expected.Loss, got.Loss, 0.02f * expected.Loss);
            foreach (var (a, b) in expected.Gradients.Zip(got.Gradients))
                Assert.True(Distance(a, b) < 0.1, $"{Distance(a, b)}");
        }
    }

    /// <summary>‖a − b‖ / ‖a‖.</summary>
    private static double Distance(float[] a, float[] b) =>
        Math.Sqrt(a.Zip(b).Sum(p => Math.Pow(p.First - p.Second, 2)) / a.Sum(v => (double)v * v));

    /// <summary>A checkpoint in float32 becomes the nearest weights of each form, under Hugging Face's names.</summary>
    [Theory]
    [InlineData(BaseWeights.Float32)]
    [InlineData(BaseWeights.Bfloat16)]
    [InlineData(BaseWeights.Nf4)]
    public void A_checkpoint_is_quantised_on_the_way_in(BaseWeights kind)
    {
        TorchDevice.Configure(threads: 1, seed: 5);
        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        using var original = new Llama(Config, null);
        string path = Path.GetTempFileName();
        Weights.Save(path, Weights.Of(original));
        using var loaded = new Llama(Config, Lora, kind);
        using (var file = SafetensorsFile.Open(path))
            loaded.LoadBase(file);
        var linears = loaded.named_modules().Where(m => m.module is LoraLinear).ToDictionary(m => m.name + ".weight", m => (LoraLinear)m.module);
        var others = loaded.named_parameters().ToDictionary(p => p.name, p => p.parameter);
        foreach (var (name, value) in Weights.Of(original))
        {
            var got = linears.TryGetValue(name, out var linear) ? linear.Base(float32) : others[name];
            bool quantised = kind == BaseWeights.Nf4 && name.Contains("_proj.");
            Assert.Equal(quantised ? ThroughNf4(value) : Weights.Floats(kind == BaseWeights.Float32 || name.Contains("norm") ? value : value.to(ScalarType.BFloat16)),
                Weights.Floats(got));
        }

        using var other = new Llama(Config with { IntermediateSize = 128 }, null, kind);
        using (var file = SafetensorsFile.Open(path))
            Assert.Contains("mlp", Assert.Throws<InputException>(() => other.LoadBase(file)).Message);
        File.Delete(path);
    }

    private static float[] ThroughNf4(Tensor value)
    {
        using var weight = new Nf4Weight(value.shape[0], value.shape[1]);
        weight.Set(Weights.Floats(value));
        return Weights.Floats(weight.Dequantise(ScalarType.Float32));
    }

    [Fact]
    public void Steps_leave_no_tensors_behind()
    {
        using var scope = NewDisposeScope();
        var (compressed, plain) = Create(BaseWeights.Nf4);
        using (compressed)
        using (plain)
        {
            Step(compressed, float32);
            GC.Collect();
            GC.WaitForPendingFinalizers();
            long before = Tensor.TotalCount;
            for (int i = 0; i < 5; i++)
                Step(compressed, float32);
            GC.Collect();
            GC.WaitForPendingFinalizers();
            Assert.InRange(Tensor.TotalCount, 0, before);
        }
    }

    /// <summary>At 8B each gradient of an intermediate value that stays until the end of the step is some 30 to 100 MB.</summary>
    [Fact]
    public void Backward_leaves_a_layers_input_gradient_and_its_adapters_and_no_more()
    {
        using var scope = NewDisposeScope();
        var (compressed, plain) = Create(BaseWeights.Nf4);
        using (compressed)
        using (plain)
        {
            var rows = PackedRows.Of(Sequences);
            var embeddings = rows.Embeddings(compressed, arange(Config.HiddenSize, ScalarType.Float32).unsqueeze(0) / 64).to(float32).detach().requires_grad_();
            var loss = compressed.Hidden(rows, embeddings).square().mean();
            int before = scope.DisposablesCount;
            loss.backward();
            int adapters = 2 * Lora.TargetModules.Count;
            Assert.InRange(scope.DisposablesCount - before, 0, Config.NumHiddenLayers * (1 + adapters));
        }
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(7, 19)] // 133 values: the last block is short and odd
    [InlineData(96, 200)] // more than one block of scales
    public void Vector_and_scalar_reading_agree_at_any_size(int outputs, int inputs)
    {
        using var scope = NewDisposeScope();
        TorchDevice.Configure(threads: 2, seed: 1);
        using var weight = new Nf4Weight(outputs, inputs);
        float[] values = Weights.Floats(randn(outputs, inputs));
        weight.Set(values);
        float[] read = Weights.Floats(weight.Dequantise(ScalarType.Float32));
        Assert.Equal(Weights.Floats(tensor(read).to(ScalarType.BFloat16)), Weights.Floats(weight.Dequantise(ScalarType.BFloat16)));
        for (int start = 0; start < values.Length; start += Nf4.BlockSize)
        {
            int end = Math.Min(start + Nf4.BlockSize, values.Length);
            float scale = values[start..end].Max(Math.Abs);
            for (int i = start; i < end; i++)
                Assert.InRange(Math.Abs(read[i] - values[i]), 0, 0.16 * scale); // half the widest step, and the error of the scale
        }
    }
}
