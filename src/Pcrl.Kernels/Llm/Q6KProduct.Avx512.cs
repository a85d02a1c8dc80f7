using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pcrl.Kernels.Llm;

internal static unsafe partial class Q6KProduct
{
    private const ulong Twos = 0x0002000200020002;

    private static Vector512<ushort> FirstShifts
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector512.Create(0, 0, 0, 0, Twos, Twos, Twos, Twos).AsUInt16();
    }

    private static Vector512<ushort> SecondShifts
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector512.Create(2 * Twos, 2 * Twos, 2 * Twos, 2 * Twos, 3 * Twos, 3 * Twos, 3 * Twos, 3 * Twos).AsUInt16();
    }

    /// <summary>Which of 16 scales stands in each lane.</summary>
    private static Vector512<short> Eights
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector512.Create(0, 0, 0x0001000100010001, 0x0001000100010001, 0x0002000200020002, 0x0002000200020002, 0x0003000300030003, 0x0003000300030003).AsInt16();
    }

    [SkipLocalsInit, MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Multiply512(byte* weights, int blocks, byte* tile, int rows, float* result, nint stride)
    {
        byte* memory = stackalloc byte[QuantisedRows.TileRows * 64 + 64];
        float* sums = (float*)(((nuint)memory + 63) & ~(nuint)63);
        for (int row = 0; row < rows; row++)
            Vector512<float>.Zero.StoreAligned(sums + 16 * row);
        for (int block = 0; block < blocks; block++, weights += BlockBytes)
        {
            for (int line = 0; line < 4; line++)
                Sse.Prefetch0(weights + Ahead + 64 * line);
            var (w0, w1) = Unpack(weights, weights + HighBits);
            var (w2, w3) = Unpack(weights + 64, weights + HighBits + 32);
            var narrow = Avx2.ConvertToVector256Int16((sbyte*)weights + Scales);
            var scales = narrow.ToVector512();
            var s0 = Avx512BW.PermuteVar32x16(scales, Eights);
            var s1 = Avx512BW.PermuteVar32x16(scales, Eights + Vector512.Create((short)4));
            var s2 = Avx512BW.PermuteVar32x16(scales, Eights + Vector512.Create((short)8));
            var s3 = Avx512BW.PermuteVar32x16(scales, Eights + Vector512.Create((short)12));
            var offsets = narrow << 5; // of the 32 that each weight is too large
            var scale = HalfPrecision.ToSingle(Vector256.Create(*(ushort*)(weights + Scale)));
            byte* a = tile + (long)block * rows * QuantisedRows.BlockBytes;
            for (int row = 0; row < rows; row++, a += QuantisedRows.BlockBytes)
            {
                var sum = (Product(w0, a, s0) + Product(w1, a + 64, s1)) + (Product(w2, a + 128, s2) + Product(w3, a + 192, s3));
                var offset = Avx2.MultiplyAddAdjacent(offsets, Vector256.Load((short*)(a + QuantisedRows.SumsOf16)));
                var value = Vector512.ConvertToSingle(sum - offset.ToVector512());
                var factor = scale * Vector512.Create(*(float*)(a + QuantisedRows.Scale));
                Vector512.FusedMultiplyAdd(value, factor, Vector512.LoadAligned(sums + 16 * row)).StoreAligned(sums + 16 * row);
            }
        }
        for (int row = 0; row < rows; row++)
            result[row * stride] = Vector512.Sum(Vector512.LoadAligned(sums + 16 * row));
    }

    /// <summary>128 weights.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector512<byte> First, Vector512<byte> Second) Unpack(byte* lowBits, byte* highBits)
    {
        var low = Vector512.Load(lowBits);
        var half = Vector256.Load(highBits);
        var high = Vector512.Create(half, half).AsUInt16();
        var (nibble, two) = (Vector512.Create((byte)15), Vector512.Create((ushort)0x0303));
        var first = (Avx512BW.ShiftRightLogicalVariable(high, FirstShifts) & two) << 4;
        var second = (Avx512BW.ShiftRightLogicalVariable(high, SecondShifts) & two) << 4;
        return ((low & nibble) | first.AsByte(), ((low.AsUInt16() >>> 4).AsByte() & nibble) | second.AsByte());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<int> Product(Vector512<byte> weights, byte* activations, Vector512<short> scales) =>
        Avx512BW.MultiplyAddAdjacent(Avx512BW.MultiplyAddAdjacent(weights, Vector512.Load((sbyte*)activations)), scales);
}
