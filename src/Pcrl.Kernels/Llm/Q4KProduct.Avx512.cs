using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pcrl.Kernels.Llm;

internal static unsafe partial class Q4KProduct
{
    // Of the 8 × 12 bytes: dwords 0 and 1 hold scales and minima of rows 0–3 in their low six bits and the high bits of rows 4–7, dword 2 the low nibbles of these.
    private static Vector512<int> FirstDwords
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector512.Create(0, 3, 6, 9, 12, 15, 18, 21, 1, 4, 7, 10, 13, 16, 19, 22);
    }

    private static Vector512<int> ThirdDwords
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector512.Create(2, 5, 8, 11, 14, 17, 20, 23, 2, 5, 8, 11, 14, 17, 20, 23);
    }

    private static Vector512<uint> ThirdShifts
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector512.Create(0u, 0, 0, 0, 0, 0, 0, 0, 4, 4, 4, 4, 4, 4, 4, 4);
    }

    private static Vector512<int> PairScales
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector512.Create(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    }

    private static Vector512<int> PairMinima
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector512.Create(8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
    }

    /// <summary>8 bytes, one a row, into four copies of 16 bits each.</summary>
    private static Vector512<byte> Spread
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector512.Create((byte)
        0, 128, 0, 128, 0, 128, 0, 128, 1, 128, 1, 128, 1, 128, 1, 128,
        2, 128, 2, 128, 2, 128, 2, 128, 3, 128, 3, 128, 3, 128, 3, 128,
        4, 128, 4, 128, 4, 128, 4, 128, 5, 128, 5, 128, 5, 128, 5, 128,
        6, 128, 6, 128, 6, 128, 6, 128, 7, 128, 7, 128, 7, 128, 7, 128);
    }

    /// <summary>From sub-block by row to row by sub-block.</summary>
    private static Vector512<byte> Transposed
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector512.Create((byte)
        0, 8, 16, 24, 32, 40, 48, 56, 1, 9, 17, 25, 33, 41, 49, 57,
        2, 10, 18, 26, 34, 42, 50, 58, 3, 11, 19, 27, 35, 43, 51, 59,
        4, 12, 20, 28, 36, 44, 52, 60, 5, 13, 21, 29, 37, 45, 53, 61,
        6, 14, 22, 30, 38, 46, 54, 62, 7, 15, 23, 31, 39, 47, 55, 63);
    }

    /// <summary>The first four bytes of each row, widened to 16 bits.</summary>
    private static Vector512<byte> FirstFour
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector512.Create((byte)
        0, 128, 1, 128, 2, 128, 3, 128, 8, 128, 9, 128, 10, 128, 11, 128,
        0, 128, 1, 128, 2, 128, 3, 128, 8, 128, 9, 128, 10, 128, 11, 128,
        0, 128, 1, 128, 2, 128, 3, 128, 8, 128, 9, 128, 10, 128, 11, 128,
        0, 128, 1, 128, 2, 128, 3, 128, 8, 128, 9, 128, 10, 128, 11, 128);
    }

    private static Vector512<byte> LastFour
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector512.Create((byte)
        4, 128, 5, 128, 6, 128, 7, 128, 12, 128, 13, 128, 14, 128, 15, 128,
        4, 128, 5, 128, 6, 128, 7, 128, 12, 128, 13, 128, 14, 128, 15, 128,
        4, 128, 5, 128, 6, 128, 7, 128, 12, 128, 13, 128, 14, 128, 15, 128,
        4, 128, 5, 128, 6, 128, 7, 128, 12, 128, 13, 128, 14, 128, 15, 128);
    }

    private static Vector512<int> TwiceLow
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector512.Create(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    }

    private static Vector512<int> TwiceHigh
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector512.Create(8, 8, 9, 9, 10, 10, 11, 11, 12, 12, 13, 13, 14, 14, 15, 15);
    }

    private static Vector512<int> EvenLanes
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector512.Create(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15);
    }

    [SkipLocalsInit, MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Multiply512(byte* weights, int blocks, byte* tile, int rows, float* result, nint stride)
    {
        // Two lanes a weight row; vectors of 64 bytes that straddle cache lines would be slow.
        byte* memory = stackalloc byte[(2 * QuantisedRows.TileRows + 4) * 64 + 64];
        memory = (byte*)(((nuint)memory + 63) & ~(nuint)63);
        byte* scaleBytes = memory, minimumBytes = memory + 64;
        int* integers = (int*)(memory + 256);
        float* sums = (float*)(integers + 16 * QuantisedRows.TileRows);
        for (int row = 0; row < rows; row++)
            Vector512<float>.Zero.StoreAligned(sums + 16 * row);
        var nibble = Vector512.Create((byte)15);
        for (int block = 0; block < blocks; block++, weights += BlockBytes)
        {
            Unpack(weights + Scales, scaleBytes, minimumBytes);
            byte* activations = tile + (long)block * rows * QuantisedRows.BlockBytes;
            byte* packed = weights + Nibbles;
            for (int pair = 0; pair < SubBlocks / 2; pair++, packed += 256)
            {
                Sse.Prefetch0(packed + Ahead);
                Sse.Prefetch0(packed + Ahead + 64);
                Sse.Prefetch0(packed + Ahead + 128);
                Sse.Prefetch0(packed + Ahead + 192);
                var (p0, p1, p2, p3) = (Vector512.Load(packed), Vector512.Load(packed + 64), Vector512.Load(packed + 128), Vector512.Load(packed + 192));
                var (low0, low1, low2, low3) = (p0 & nibble, p1 & nibble, p2 & nibble, p3 & nibble);
                var (high0, high1, high2, high3) = (High(p0, nibble), High(p1, nibble), High(p2, nibble), High(p3, nibble));
                var lowScale = SpreadScale(scaleBytes + 16 * pair);
                var highScale = SpreadScale(scaleBytes + 16 * pair + 8);
                sbyte* a = (sbyte*)activations + 64 * pair;
                int* sum = integers;
                for (int row = 0; row < rows; row++, a += QuantisedRows.BlockBytes, sum += 16)
                {
                    var low = (Pairs(low0, a) + Pairs(low1, a + 8)) + (Pairs(low2, a + 16) + Pairs(low3, a + 24));
                    var high = (Pairs(high0, a + 32) + Pairs(high1, a + 40)) + (Pairs(high2, a + 48) + Pairs(high3, a + 56));
                    var both = Avx512BW.MultiplyAddAdjacent(low, lowScale) + Avx512BW.MultiplyAddAdjacent(high, highScale);
                    (pair == 0 ? both : both + Vector512.LoadAligned(sum)).StoreAligned(sum);
                }
            }
            var minima = Avx512Vbmi.PermuteVar64x8(Vector512.LoadAligned(minimumBytes), Transposed);
            var (minima0, minima1) = (Avx512BW.Shuffle(minima, FirstFour).AsInt16(), Avx512BW.Shuffle(minima, LastFour).AsInt16());
            var halves = HalfPrecision.ToSingle(Vector256.Load((ushort*)weights));
            var (scale, minimum) = (Avx512F.PermuteVar16x32(halves, TwiceLow), Avx512F.PermuteVar16x32(halves, TwiceHigh));
            for (int row = 0; row < rows; row++, activations += QuantisedRows.BlockBytes)
            {
                long* s = (long*)(activations + QuantisedRows.SumsOf32);
                var offset = Avx512BW.MultiplyAddAdjacent(minima0, Vector512.Create(s[0]).AsInt16()) + Avx512BW.MultiplyAddAdjacent(minima1, Vector512.Create(s[1]).AsInt16());
                var value = Vector512.ConvertToSingle(Vector512.LoadAligned(integers + 16 * row)) * scale;
                value = Avx512F.FusedMultiplyAddNegated(Vector512.ConvertToSingle(offset), minimum, value);
                var total = Vector512.FusedMultiplyAdd(value, Vector512.Create(*(float*)(activations + QuantisedRows.Scale)), Vector512.LoadAligned(sums + 16 * row));
                total.StoreAligned(sums + 16 * row);
            }
        }
        for (int row = 0; row < rows; row++)
        {
            var split = Avx512F.PermuteVar16x32(Vector512.LoadAligned(sums + 16 * row), EvenLanes);
            (split.GetLower() + split.GetUpper()).Store(result + row * stride);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<byte> High(Vector512<byte> packed, Vector512<byte> nibble) => (packed.AsUInt16() >>> 4).AsByte() & nibble;

    /// <summary>Products of eight elements of each row with the same eight activations, summed in pairs.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<short> Pairs(Vector512<byte> weights, sbyte* activations) =>
        Avx512BW.MultiplyAddAdjacent(weights, Vector512.Create(*(long*)activations).AsSByte());

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<short> SpreadScale(byte* scales)
    {
        // Each 128-bit part has the bytes of its two rows where the shuffle, which stays inside parts, finds them: all parts hold all eight.
        return Avx512BW.Shuffle(Vector512.Create(*(ulong*)scales).AsByte(), Spread).AsInt16();
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Unpack(byte* packed, byte* scales, byte* minima)
    {
        var (front, back) = (Vector512.Load((int*)packed), Vector512.Create(Vector256.Load((int*)packed + 16), Vector256<int>.Zero));
        var first = Avx512F.PermuteVar16x32x2(front, FirstDwords, back).AsUInt32();
        var third = Avx512F.ShiftRightLogicalVariable(Avx512F.PermuteVar16x32x2(front, ThirdDwords, back).AsUInt32(), ThirdShifts);
        var rows0 = (first & Vector512.Create(0x3F3F3F3Fu)).AsInt32();
        var rows4 = ((third & Vector512.Create(0x0F0F0F0Fu)) | ((first >>> 2) & Vector512.Create(0x30303030u))).AsInt32();
        Avx512F.PermuteVar16x32x2(rows0, PairScales, rows4).AsByte().StoreAligned(scales);
        Avx512F.PermuteVar16x32x2(rows0, PairMinima, rows4).AsByte().StoreAligned(minima);
    }
}
