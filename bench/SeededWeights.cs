using System.Runtime.InteropServices;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Vision;

namespace Pcrl.Bench;

/// <summary>Weights of the visual path drawn from a seed: each tensor's values follow from the seed and its name alone.</summary>
internal static class SeededWeights
{
    /// <summary>Writes them as <c>visual.gguf</c>, the way a bundle holds them.</summary>
    public static void Save(string path, VisualConfig config, int seed)
    {
        var file = new GgufWriter();
        file.Add("general.architecture", VisualGguf.Architecture);
        foreach (var (name, shape) in OnnxEncoder.Weights(config))
            file.AddTensor(name, GgufType.F32, [.. shape.Select(d => (long)d)], stream => stream.Write(MemoryMarshal.AsBytes<float>(Values(name, shape, seed))));
        file.Save(path);
    }

    /// <summary>Slices of noise: [slices, S, S] in 0..1.</summary>
    public static float[] Study(VisualConfig config, int slices, int seed)
    {
        var random = new Random(seed);
        var study = new float[slices * config.ImageSize * config.ImageSize];
        foreach (ref float value in study.AsSpan())
            value = random.NextSingle();
        return study;
    }

    /// <summary>Uniform values of the variance that keeps activations at one size, smaller where a residual is added; biases are small.</summary>
    private static float[] Values(string name, int[] shape, int seed)
    {
        const float Bias = 0.02f, BesideResidual = 0.3f;
        int fanIn = shape.Skip(1).Aggregate(1, (product, d) => product * d);
        bool closesBlock = name.Contains("conv3") || name.Contains("local_res") && name.Contains("conv2");
        float scale = shape.Length == 1 ? Bias : MathF.Sqrt(6f / fanIn) * (closesBlock ? BesideResidual : 1);
        ulong state = (ulong)seed;
        foreach (char letter in name)
            state = (state ^ letter) * 0x100000001b3;
        var values = new float[shape.Aggregate(1, (product, d) => product * d)];
        for (int i = 0; i < values.Length; i++)
        {
            ulong z = state += 0x9E3779B97F4A7C15; // SplitMix64
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
            values[i] = scale * ((int)(z >> 40) / (float)(1 << 23) - 1);
        }
        return values;
    }
}
