using System.Text.Json;
using Pcrl.Runtime.Language;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Models;
using Pcrl.Train.Quantisation;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Parity.Tests;

/// <summary>NF4 against bitsandbytes' numbers: every code and scale bit for bit, and a LLaMA over such weights.</summary>
internal static class Nf4Goldens
{
    public static void Quantise(GoldenCase golden)
    {
        float[] matrix = golden.Floats("in.matrix");
        Assert.Equal(golden.Floats("out.codebook"), Nf4.Codebook.ToArray());
        var (packed, scales) = Quantised(matrix);
        Assert.Equal(Bytes(golden, "out.packed"), packed);
        Assert.Equal(golden.Floats("out.absmax"), scales);
        Assert.Equal(golden.Floats("out.dequantised"), Dequantised(packed, scales, matrix.Length));
        if (!golden.Has("out.nested.codes"))
            return;
        Assert.Equal(golden.Floats("out.dynamic_map_256"), ScaleCode.Codebook.ToArray());
        byte[] codes = new byte[scales.Length];
        var blockScales = new float[(scales.Length + ScaleCode.BlockSize - 1) / ScaleCode.BlockSize];
        float mean = ScaleCode.Quantise(scales, codes, blockScales);
        Assert.Equal(golden.Floats("out.nested.offset")[0], mean);
        Assert.Equal(Bytes(golden, "out.nested.codes"), codes);
        Assert.Equal(golden.Floats("out.nested.absmax"), blockScales);
        float[] read = [.. codes.Select((code, i) => ScaleCode.Dequantise(code, blockScales[i / ScaleCode.BlockSize], mean))];
        Assert.Equal(golden.Floats("out.nested.absmax_dequantised"), read);

        using var scope = NewDisposeScope();
        using var weight = new Nf4Weight(golden.Shape("in.matrix")[0], golden.Shape("in.matrix")[1]);
        weight.Set(matrix);
        Assert.Equal(golden.Floats("out.dequantised_double"), Weights.Floats(weight.Dequantise(ScalarType.Float32)));
        var rounded = tensor(golden.Floats("out.dequantised_double")).to(ScalarType.BFloat16);
        Assert.Equal(Weights.Floats(rounded), Weights.Floats(weight.Dequantise(ScalarType.BFloat16)));
    }

    public static void Llama(GoldenCase golden)
    {
        TorchDevice.Configure(threads: 1, seed: 0);
        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        bool nested = golden.Config.GetProperty("quant").GetProperty("double_quant").GetBoolean();
        var filled = golden.Filled("weights");
        using var llama = new Llama(golden.Config.Deserialize<LlmConfig>(TorchGoldens.SnakeCase)!, null);
        foreach (var (name, value) in Weights.Of(llama))
        {
            var (shape, values) = filled[name];
            Assert.Equal(shape, value.shape);
            if (name.EndsWith("_proj.weight", StringComparison.Ordinal))
                values = nested ? DequantisedTwice(shape, values) : Requantised(values);
            Weights.Set(value, values);
            string first = $"dequantised.{name}.first256";
            if (golden.Has("out." + first))
                golden.AssertOutput(first, values.AsSpan(0, 256));
        }
        var tokens = tensor(golden.Integers("in.tokens")).reshape(golden.Shape("in.tokens"));
        var hidden = llama.Hidden(llama.Embed(tokens));
        golden.AssertOutput("last_hidden_state", Weights.Floats(hidden));
        golden.AssertOutput("logits", Weights.Floats(llama.Logits(hidden)));
    }

    private static float[] DequantisedTwice(long[] shape, float[] values)
    {
        using var weight = new Nf4Weight(shape[0], shape[1]);
        weight.Set(values);
        return Weights.Floats(weight.Dequantise(ScalarType.Float32));
    }

    private static float[] Requantised(float[] values)
    {
        var (packed, scales) = Quantised(values);
        return Dequantised(packed, scales, values.Length);
    }

    private static (byte[] Packed, float[] Scales) Quantised(float[] values)
    {
        var packed = new byte[(values.Length + 1) / 2];
        var scales = new float[(values.Length + Nf4.BlockSize - 1) / Nf4.BlockSize];
        Nf4.Quantise(values, packed, scales);
        return (packed, scales);
    }

    private static float[] Dequantised(byte[] packed, float[] scales, int count)
    {
        var values = new float[count];
        for (int block = 0; block < scales.Length; block++)
        {
            int start = block * Nf4.BlockSize, length = Math.Min(Nf4.BlockSize, count - start);
            Nf4.Dequantise(packed.AsSpan(start / 2, (length + 1) / 2), scales[block], values.AsSpan(start, length));
        }
        return values;
    }

    private static byte[] Bytes(GoldenCase golden, string name) => [.. golden.Integers(name).Select(value => (byte)value)];
}
