using System.Buffers.Binary;
using Pcrl.Runtime.Bundles;

namespace Pcrl.Runtime.Tests.Bundles;

public sealed class FloatFormatsTests
{
    [Fact]
    public void BFloat16_is_rounded_to_nearest_even_wherever_a_value_stands()
    {
        var random = new Random(5);
        float[] values = [.. Enumerable.Range(0, 1003).Select(_ => BitConverter.UInt32BitsToSingle((uint)random.NextInt64(1L << 32)))];
        float[] special = [0, -0f, float.NaN, float.PositiveInfinity, float.MaxValue, float.Epsilon, BitConverter.UInt32BitsToSingle(0x7F80_0001)];
        special.CopyTo(values, 17);
        (values[40], values[41]) = (BitConverter.UInt32BitsToSingle(0x3F80_8000), BitConverter.UInt32BitsToSingle(0x3F81_8000)); // halfway
        var bytes = new byte[2 * values.Length];
        FloatFormats.Narrow(GgufType.BF16, values, bytes);
        for (int i = 0; i < values.Length; i++)
        {
            ushort got = BinaryPrimitives.ReadUInt16LittleEndian(bytes.AsSpan(2 * i));
            float back = BitConverter.UInt32BitsToSingle((uint)got << 16);
            Assert.Equal(float.IsNaN(values[i]), float.IsNaN(back));
            if (!float.IsNaN(back))
                Assert.Equal(Rounded(values[i]), got);
        }
        Assert.Equal(0x3F80, BinaryPrimitives.ReadUInt16LittleEndian(bytes.AsSpan(80)));
        Assert.Equal(0x3F82, BinaryPrimitives.ReadUInt16LittleEndian(bytes.AsSpan(82)));
    }

    /// <summary>By exact arithmetic: the nearer of the two neighbours, the even one of two equally near.</summary>
    private static ushort Rounded(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value), lost = bits & 0xFFFF, below = bits >> 16;
        return (ushort)(lost > 0x8000 || (lost == 0x8000 && (below & 1) == 1) ? below + 1 : below);
    }
}
