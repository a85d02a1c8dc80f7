using System.Numerics.Tensors;

namespace Pcrl.Train.Quantisation;

/// <summary>
/// The second quantisation of QLoRA's double quantisation: the scales of NF4, less their mean, as 8-bit codes in blocks of 256 with a scale of their own. The codes stand
/// for bitsandbytes' signed "dynamic" numbers: a sign, a decimal exponent in unary, and a fraction in what bits are left.
/// </summary>
public static class ScaleCode
{
    /// <summary>Scales that share a scale.</summary>
    public const int BlockSize = 256;

    private static readonly float[] Map = CreateMap();

    /// <summary>Ascending values of the 256 codes in a block of scale 1.</summary>
    public static ReadOnlySpan<float> Codebook => Map;

    /// <summary>Quantises scales.</summary>
    /// <param name="scales">Any number; the last block may be shorter.</param>
    /// <param name="codes">One for each.</param>
    /// <param name="blockScales">One for each block.</param>
    /// <returns>The mean, which is to be added when they are read.</returns>
    public static float Quantise(ReadOnlySpan<float> scales, Span<byte> codes, Span<float> blockScales)
    {
        double sum = 0;
        foreach (float scale in scales)
            sum += scale;
        float mean = (float)(sum / scales.Length);
        var centred = new float[BlockSize];
        for (int start = 0, block = 0; start < scales.Length; start += BlockSize, block++)
        {
            var rest = centred.AsSpan(0, Math.Min(BlockSize, scales.Length - start));
            TensorPrimitives.Subtract(scales.Slice(start, rest.Length), mean, rest);
            float blockScale = blockScales[block] = Math.Abs(TensorPrimitives.MaxMagnitude<float>(rest));
            for (int i = 0; i < rest.Length; i++)
                codes[start + i] = Code(blockScale == 0 ? 0 : rest[i] / blockScale);
        }
        return mean;
    }

    /// <summary>A scale from its code, the scale of its block and the mean.</summary>
    public static float Dequantise(byte code, float blockScale, float mean) => Map[code] * blockScale + mean;

    private static byte Code(float value)
    {
        int at = Array.BinarySearch(Map, value);
        if (at >= 0)
            return (byte)at;
        int above = Math.Min(~at, 255), below = Math.Max(~at - 1, 0);
        return (byte)(value - Map[below] <= Map[above] - value ? below : above);
    }

    private static float[] CreateMap()
    {
        const int exponents = 7;
        var values = new List<float> { 0, 1 };
        for (int exponent = 0; exponent < exponents; exponent++)
        {
            int fractions = 1 << exponent;
            float power = (float)Math.Pow(10, exponent - exponents + 1);
            for (int i = 0; i < fractions; i++)
            {
                float magnitude = power * ((Boundary(i, fractions) + Boundary(i + 1, fractions)) / 2);
                values.Add(magnitude);
                values.Add(-magnitude);
            }
        }
        return [.. values.Order()];
    }

    /// <summary>
    /// Point <paramref name="i"/> of equal steps from 0.1 to 1, rounded as torch's linspace rounds on AVX2, which made bitsandbytes' map: fused from the nearer end,
    /// and, where there are 16 points or more, from the first of every eight.
    /// </summary>
    private static float Boundary(int i, int steps)
    {
        const int lanes = 8;
        float step = (1f - 0.1f) / steps;
        float Fused(int at) => at < (steps + 1) / 2 ? MathF.FusedMultiplyAdd(step, at, 0.1f) : MathF.FusedMultiplyAdd(-step, steps - at, 1f);
        return i < (steps + 1) / (2 * lanes) * (2 * lanes) ? Fused(i - i % lanes) + step * (i % lanes) : Fused(i);
    }
}
