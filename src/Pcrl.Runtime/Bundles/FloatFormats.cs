using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Pcrl.Runtime.Bundles;

/// <summary>The 16-bit floating-point formats of weight files, and float32 beside them.</summary>
public static class FloatFormats
{
    /// <summary>Little-endian F16 or BF16 as float32. False for other types.</summary>
    public static bool TryWiden(GgufType type, ReadOnlySpan<byte> bytes, Span<float> values)
    {
        switch (type)
        {
            case GgufType.F16:
                TensorPrimitives.ConvertToSingle(MemoryMarshal.Cast<byte, Half>(bytes), values);
                return true;
            case GgufType.BF16:
                WidenBFloat16(MemoryMarshal.Cast<byte, ushort>(bytes), values);
                return true;
            default:
                return false;
        }
    }

    /// <summary>Encodes float32 as F32, F16 or BF16, rounding to nearest even.</summary>
    /// <exception cref="ArgumentException">Another type.</exception>
    public static void Narrow(GgufType type, ReadOnlySpan<float> values, Span<byte> bytes)
    {
        switch (type)
        {
            case GgufType.F32:
                MemoryMarshal.AsBytes(values).CopyTo(bytes);
                break;
            case GgufType.F16:
                TensorPrimitives.ConvertToHalf(values, MemoryMarshal.Cast<byte, Half>(bytes));
                break;
            case GgufType.BF16:
                NarrowBFloat16(values, MemoryMarshal.Cast<byte, ushort>(bytes));
                break;
            default:
                throw new ArgumentException($"{type} is not a floating-point format", nameof(type));
        }
    }

    private static void WidenBFloat16(ReadOnlySpan<ushort> halves, Span<float> values)
    {
        int i = 0;
        for (; i <= halves.Length - Vector256<ushort>.Count; i += Vector256<ushort>.Count)
        {
            var (lower, upper) = Vector256.Widen(Vector256.Create(halves[i..]));
            (lower << 16).AsSingle().CopyTo(values[i..]);
            (upper << 16).AsSingle().CopyTo(values[(i + Vector256<uint>.Count)..]);
        }
        for (; i < halves.Length; i++)
            values[i] = BitConverter.UInt32BitsToSingle((uint)halves[i] << 16);
    }

    /// <summary>The upper halves, rounded to nearest even, as numbers below 65536; NaN stays NaN even if its payload sits in the lost bits.</summary>
    private static Vector256<uint> Upper(Vector256<float> values)
    {
        var bits = values.AsUInt32();
        var upper = bits >> 16;
        return Vector256.ConditionalSelect(Vector256.IsNaN(values).AsUInt32(), upper | Vector256.Create(0x40u), (bits + Vector256.Create(0x7FFFu) + (upper & Vector256<uint>.One)) >> 16);
    }

    private static void NarrowBFloat16(ReadOnlySpan<float> values, Span<ushort> rounded)
    {
        int i = 0;
        for (; i <= values.Length - Vector256<ushort>.Count; i += Vector256<ushort>.Count)
            Vector256.Narrow(Upper(Vector256.Create(values[i..])), Upper(Vector256.Create(values[(i + Vector256<float>.Count)..]))).CopyTo(rounded[i..]);
        for (; i < values.Length; i++)
        {
            uint bits = BitConverter.SingleToUInt32Bits(values[i]);
            rounded[i] = float.IsNaN(values[i])
                ? (ushort)((bits >> 16) | 0x40)
                : (ushort)((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16);
        }
    }
}
