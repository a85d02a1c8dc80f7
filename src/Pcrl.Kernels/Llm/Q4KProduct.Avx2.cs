using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pcrl.Kernels.Llm;

internal static unsafe partial class Q4KProduct
{
    /// <summary>4 bytes, one a row, into four copies of 16 bits each.</summary>
    private static Vector256<byte> Spread256
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector256.Create((byte)
        0, 128, 0, 128, 0, 128, 0, 128, 1, 128, 1, 128, 1, 128, 1, 128,
        2, 128, 2, 128, 2, 128, 2, 128, 3, 128, 3, 128, 3, 128, 3, 128);
    }

    /// <summary>The bytes of two sub-blocks, four rows each, taken in turn.</summary>
    private static Vector256<byte> InTurn
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector256.Create((byte)
        0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15,
        0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
    }

    /// <summary><see cref="Multiply"/> with AVX2: half of the group at a time, for sixteen registers hold no more unpacked weights.</summary>
    [SkipLocalsInit, MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Multiply256(byte* weights, int blocks, byte* tile, int rows, float* result, nint stride)
    {
        byte* memory = stackalloc byte[(3 * QuantisedRows.TileRows + 4) * 32 + 32];
        memory = (byte*)(((nuint)memory + 31) & ~(nuint)31);
        int* scales = (int*)memory; // [half, sub-block], four bytes each, one a row
        int* integers = (int*)(memory + 128); // [row of the tile, half, weight row of the half, 2]
        float* sums = (float*)(integers + 16 * QuantisedRows.TileRows); // [row of the tile, weight row]
        for (int row = 0; row < rows; row++)
            Vector256<float>.Zero.StoreAligned(sums + 8 * row);
        var nibble = Vector256.Create((byte)15);
        for (int block = 0; block < blocks; block++, weights += BlockBytes)
        {
            var (minima0, minima1, minima2, minima3) = Unpack256(weights + Scales, scales);
            byte* activations = tile + (long)block * rows * QuantisedRows.BlockBytes;
            byte* packed = weights + Nibbles;
            for (int pair = 0; pair < SubBlocks / 2; pair++, packed += 256)
            {
                Sse.Prefetch0(packed + Ahead);
                Sse.Prefetch0(packed + Ahead + 64);
                Sse.Prefetch0(packed + Ahead + 128);
                Sse.Prefetch0(packed + Ahead + 192);
                for (int half = 0; half < 2; half++)
                {
                    byte* p = packed + 32 * half;
                    var (p0, p1, p2, p3) = (Vector256.Load(p), Vector256.Load(p + 64), Vector256.Load(p + 128), Vector256.Load(p + 192));
                    var (low0, low1, low2, low3) = (p0 & nibble, p1 & nibble, p2 & nibble, p3 & nibble);
                    var (high0, high1, high2, high3) = (High(p0, nibble), High(p1, nibble), High(p2, nibble), High(p3, nibble));
                    var lowScale = Avx2.Shuffle(Vector256.Create(scales[8 * half + 2 * pair]).AsByte(), Spread256).AsInt16();
                    var highScale = Avx2.Shuffle(Vector256.Create(scales[8 * half + 2 * pair + 1]).AsByte(), Spread256).AsInt16();
                    sbyte* a = (sbyte*)activations + 64 * pair;
                    int* sum = integers + 8 * half;
                    for (int row = 0; row < rows; row++, a += QuantisedRows.BlockBytes, sum += 16)
                    {
                        // One after the other, so that no weights have to leave their registers; rows overlap.
                        var low = Pairs(low0, a);
                        low += Pairs(low1, a + 8);
                        low += Pairs(low2, a + 16);
                        low += Pairs(low3, a + 24);
                        var both = Avx2.MultiplyAddAdjacent(low, lowScale);
                        var high = Pairs(high0, a + 32);
                        high += Pairs(high1, a + 40);
                        high += Pairs(high2, a + 48);
                        high += Pairs(high3, a + 56);
                        both += Avx2.MultiplyAddAdjacent(high, highScale);
                        (pair == 0 ? both : both + Vector256.LoadAligned(sum)).StoreAligned(sum);
                    }
                }
            }
            var scale = HalfPrecision.ToSingle(Vector128.Load((ushort*)weights));
            var minimum = HalfPrecision.ToSingle(Vector128.Load((ushort*)weights + Group));
            for (int row = 0; row < rows; row++, activations += QuantisedRows.BlockBytes)
            {
                int* s = (int*)(activations + QuantisedRows.SumsOf32);
                var offset = Avx2.MultiplyAddAdjacent(minima0, Vector256.Create(s[0]).AsInt16()) + Avx2.MultiplyAddAdjacent(minima1, Vector256.Create(s[1]).AsInt16())
                    + Avx2.MultiplyAddAdjacent(minima2, Vector256.Create(s[2]).AsInt16()) + Avx2.MultiplyAddAdjacent(minima3, Vector256.Create(s[3]).AsInt16());
                var folded = Avx2.HorizontalAdd(Vector256.LoadAligned(integers + 16 * row), Vector256.LoadAligned(integers + 16 * row + 8)); // rows 0 1 4 5 2 3 6 7
                var product = Avx2.Permute4x64(folded.AsInt64(), 0b11_01_10_00).AsInt32();
                var value = Vector256.ConvertToSingle(product) * scale;
                value = Fma.MultiplyAddNegated(Vector256.ConvertToSingle(offset), minimum, value);
                Fma.MultiplyAdd(value, Vector256.Create(*(float*)(activations + QuantisedRows.Scale)), Vector256.LoadAligned(sums + 8 * row)).StoreAligned(sums + 8 * row);
            }
        }
        for (int row = 0; row < rows; row++)
            Vector256.LoadAligned(sums + 8 * row).Store(result + row * stride);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<byte> High(Vector256<byte> packed, Vector256<byte> nibble) => (packed.AsUInt16() >>> 4).AsByte() & nibble;

    /// <summary>Products of eight elements of each of four rows with the same eight activations, summed in pairs.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<short> Pairs(Vector256<byte> weights, sbyte* activations) =>
        Avx2.MultiplyAddAdjacent(weights, Vector256.Create(*(long*)activations).AsSByte());

    /// <summary>Unpacks scales, and minima of two sub-blocks beside each other, weight row by weight row.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector256<short>, Vector256<short>, Vector256<short>, Vector256<short>) Unpack256(byte* packed, int* scales)
    {
        // Three dwords of each sub-block, those of sub-blocks 0 to 3 in the lower half and of 4 to 7 in the upper: taken apart.
        var (a, b, c) = (Twelve(packed), Twelve(packed + 16), Twelve(packed + 32));
        var first = Avx2.Shuffle(Avx2.Blend(Avx2.Blend(a, b, 0b0100_0100), c, 0b0010_0010), 0b01_10_11_00);
        var second = Avx2.Shuffle(Avx2.Blend(Avx2.Blend(a, b, 0b1001_1001), c, 0b0100_0100), 0b10_11_00_01);
        var third = Avx2.Shuffle(Avx2.Blend(Avx2.Blend(a, b, 0b0010_0010), c, 0b1001_1001), 0b11_00_01_10);
        var (six, four, two) = (Vector256.Create(0x3F3F3F3F), Vector256.Create(0x0F0F0F0F), Vector256.Create(0x30303030));
        (first & six).StoreAligned(scales);
        ((third & four) | ((first >>> 2) & two)).StoreAligned(scales + 8);
        var front = Avx2.Shuffle((second & six).AsByte(), InTurn).AsInt64();
        var back = Avx2.Shuffle((((third >>> 4) & four) | ((second >>> 2) & two)).AsByte(), InTurn).AsInt64();
        var (even, odd) = (Avx2.UnpackLow(front, back).AsByte(), Avx2.UnpackHigh(front, back).AsByte());
        return (Avx2.ConvertToVector256Int16(even.GetLower()), Avx2.ConvertToVector256Int16(odd.GetLower()),
            Avx2.ConvertToVector256Int16(even.GetUpper()), Avx2.ConvertToVector256Int16(odd.GetUpper()));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<int> Twelve(byte* packed) => Vector256.Create(Vector128.Load((int*)packed), Vector128.Load((int*)(packed + 48)));
}
