using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pcrl.Train.Quantisation;

/// <summary>
/// 4-bit NormalFloat (QLoRA, Dettmers et al. 2023): blocks of 64 values in row-major order share a scale, their largest magnitude; a value is one of 16 quantiles of
/// the normal distribution times the scale. Two codes to a byte, the first in the high half. Bit for bit what bitsandbytes computes.
/// </summary>
public static class Nf4
{
    /// <summary>Values that share a scale.</summary>
    public const int BlockSize = 64;

    private const byte Zero = 7;

    /// <summary>The 16 values of a block with scale 1.</summary>
    public static ReadOnlySpan<float> Codebook =>
    [
        -1f, -0.6961928009986877f, -0.5250730514526367f, -0.39491748809814453f, -0.28444138169288635f, -0.18477343022823334f, -0.09105003625154495f, 0f,
        0.07958029955625534f, 0.16093020141124725f, 0.24611230194568634f, 0.33791524171829224f, 0.44070982933044434f, 0.5626170039176941f, 0.7229568362236023f, 1f,
    ];

    /// <summary>Quantises values.</summary>
    /// <param name="values">Any number; the last block may be shorter.</param>
    /// <param name="packed">Codes, one byte for two values; an odd last one is followed by the code of 0.</param>
    /// <param name="scales">One for each block.</param>
    public static void Quantise(ReadOnlySpan<float> values, Span<byte> packed, Span<float> scales)
    {
        Span<float> middles = stackalloc float[15];
        for (int i = 0; i < middles.Length; i++)
            middles[i] = (Codebook[i] + Codebook[i + 1]) / 2;
        for (int start = 0, block = 0; start < values.Length; start += BlockSize, block++)
        {
            var rest = values[start..Math.Min(start + BlockSize, values.Length)];
            float scale = Math.Abs(TensorPrimitives.MaxMagnitude(rest));
            scales[block] = scale;
            for (int i = 0; i < rest.Length; i += 2)
            {
                byte second = i + 1 < rest.Length ? Code(rest[i + 1], scale, middles) : Zero;
                packed[(start + i) / 2] = (byte)(Code(rest[i], scale, middles) << 4 | second);
            }
        }
    }

    /// <summary>The nearest code, by bisection.</summary>
    private static byte Code(float value, float scale, ReadOnlySpan<float> middles)
    {
        if (scale == 0)
            return Zero;
        value /= scale;
        int code = 0;
        for (int step = 8; step > 0; step /= 2)
        {
            if (value > middles[code + step - 1])
                code += step;
        }
        return (byte)code;
    }

    /// <summary>One block back to float32.</summary>
    /// <param name="packed">Its codes.</param>
    /// <param name="scale">Its scale.</param>
    /// <param name="values">Its values, up to <see cref="BlockSize"/>.</param>
    public static void Dequantise(ReadOnlySpan<byte> packed, float scale, Span<float> values)
    {
        if (Vector512.IsHardwareAccelerated && Avx512F.IsSupported && values.Length == BlockSize)
        {
            var table = Vector512.LoadUnsafe(ref MemoryMarshal.GetReference(Codebook)) * scale;
            ref byte codes = ref MemoryMarshal.GetReference(packed);
            ref float output = ref MemoryMarshal.GetReference(values);
            for (int i = 0; i < BlockSize; i += 16)
            {
                // 8 bytes, each widened to the two 32-bit indices of its halves.
                var bytes = Avx512F.ConvertToVector512UInt64(Vector128.CreateScalar(Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref codes, i / 2))).AsByte());
                var indices = (bytes >>> 4 | (bytes & Vector512.Create(15ul)) << 32).AsInt32();
                Avx512F.PermuteVar16x32(table, indices).StoreUnsafe(ref output, (nuint)i);
            }
            return;
        }
        for (int i = 0; i < values.Length; i++)
            values[i] = Codebook[CodeAt(packed, i)] * scale;
    }

    /// <summary>One block back to bfloat16, rounded to the nearest.</summary>
    /// <param name="packed">Its codes.</param>
    /// <param name="scale">Its scale.</param>
    /// <param name="values">The bits of its values, up to <see cref="BlockSize"/>.</param>
    public static void Dequantise(ReadOnlySpan<byte> packed, float scale, Span<ushort> values)
    {
        Span<ushort> table = stackalloc ushort[32]; // the codebook twice: a permutation of 16-bit values takes 32 of them
        for (int code = 0; code < 16; code++)
            table[code] = table[code + 16] = Bfloat16(Codebook[code] * scale);
        if (Avx512BW.IsSupported && values.Length == BlockSize)
        {
            var shuffled = Vector512.LoadUnsafe(ref MemoryMarshal.GetReference(table));
            ref byte codes = ref MemoryMarshal.GetReference(packed);
            ref ushort output = ref MemoryMarshal.GetReference(values);
            for (int i = 0; i < BlockSize; i += 32)
            {
                // 16 bytes, each widened to the two 16-bit indices of its halves.
                var bytes = Avx512F.ConvertToVector512UInt32(Vector128.LoadUnsafe(ref codes, (nuint)(i / 2)));
                var indices = (bytes >>> 4 | (bytes & Vector512.Create(15u)) << 16).AsUInt16();
                Avx512BW.PermuteVar32x16(shuffled, indices).StoreUnsafe(ref output, (nuint)i);
            }
            return;
        }
        for (int i = 0; i < values.Length; i++)
            values[i] = table[CodeAt(packed, i)];
    }

    private static int CodeAt(ReadOnlySpan<byte> packed, int index) => index % 2 == 0 ? packed[index / 2] >> 4 : packed[index / 2] & 15;

    /// <summary>Round to nearest, ties to even; values are finite.</summary>
    private static ushort Bfloat16(float value)
    {
        uint bits = BitConverter.SingleToUInt32Bits(value);
        return (ushort)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
    }
}
