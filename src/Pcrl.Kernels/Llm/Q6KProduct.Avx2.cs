using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pcrl.Kernels.Llm;

internal static unsafe partial class Q6KProduct
{
    /// <summary><see cref="Multiply"/> with AVX2: half of a block at a time, so that weights and scales stay in registers.</summary>
    [SkipLocalsInit, MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Multiply256(byte* weights, int blocks, byte* tile, int rows, float* result, nint stride)
    {
        byte* memory = stackalloc byte[2 * QuantisedRows.TileRows * 32 + 32];
        int* integers = (int*)(((nuint)memory + 31) & ~(nuint)31); // [row, 8] of a block's first half
        float* sums = (float*)(integers + 8 * QuantisedRows.TileRows); // [row, 8]
        for (int row = 0; row < rows; row++)
            Vector256<float>.Zero.StoreAligned(sums + 8 * row);
        for (int block = 0; block < blocks; block++, weights += BlockBytes)
        {
            for (int line = 0; line < 4; line++)
                Sse.Prefetch0(weights + Ahead + 64 * line);
            byte* activations = tile + (long)block * rows * QuantisedRows.BlockBytes;
            var scales = Avx2.ConvertToVector256Int16((sbyte*)weights + Scales);

            var (w0, w1, w2, w3) = Unpack256(weights, weights + HighBits);
            var eight = Avx2.Permute4x64(scales.AsInt64(), 0b01_00_01_00).AsByte();
            var (s0, s1, s2, s3) = (Pair(eight, 0), Pair(eight, 1), Pair(eight, 2), Pair(eight, 3));
            byte* a = activations;
            for (int row = 0; row < rows; row++, a += QuantisedRows.BlockBytes)
                ((Product(w0, a, s0) + Product(w1, a + 32, s1)) + (Product(w2, a + 64, s2) + Product(w3, a + 96, s3))).StoreAligned(integers + 8 * row);

            (w0, w1, w2, w3) = Unpack256(weights + 64, weights + HighBits + 32);
            eight = Avx2.Permute4x64(scales.AsInt64(), 0b11_10_11_10).AsByte();
            (s0, s1, s2, s3) = (Pair(eight, 0), Pair(eight, 1), Pair(eight, 2), Pair(eight, 3));
            var offsets = scales << 5; // of the 32 that each weight is too large
            var scale = HalfPrecision.ToSingle(Vector128.Create(*(ushort*)(weights + Scale)));
            a = activations;
            for (int row = 0; row < rows; row++, a += QuantisedRows.BlockBytes)
            {
                var sum = (Product(w0, a + 128, s0) + Product(w1, a + 160, s1)) + (Product(w2, a + 192, s2) + Product(w3, a + 224, s3));
                var offset = Avx2.MultiplyAddAdjacent(offsets, Vector256.Load((short*)(a + QuantisedRows.SumsOf16)));
                var value = Vector256.ConvertToSingle(sum + Vector256.LoadAligned(integers + 8 * row) - offset);
                var factor = scale * Vector256.Create(*(float*)(a + QuantisedRows.Scale));
                Fma.MultiplyAdd(value, factor, Vector256.LoadAligned(sums + 8 * row)).StoreAligned(sums + 8 * row);
            }
        }
        for (int row = 0; row < rows; row++)
            result[row * stride] = Vector256.Sum(Vector256.LoadAligned(sums + 8 * row));
    }

    /// <summary>Of eight scales, which stand in both halves, one in all lanes of the lower half and the next in all lanes of the upper.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<short> Pair(Vector256<byte> eight, int pair) =>
        Avx2.Shuffle(eight, Vector256.Create(Vector128.Create((ushort)(0x0100 + 0x0404 * pair)), Vector128.Create((ushort)(0x0302 + 0x0404 * pair))).AsByte()).AsInt16();

    /// <summary>128 weights.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector256<byte>, Vector256<byte>, Vector256<byte>, Vector256<byte>) Unpack256(byte* lowBits, byte* highBits)
    {
        var (front, back) = (Vector256.Load(lowBits), Vector256.Load(lowBits + 32));
        var high = Vector256.Load(highBits).AsUInt16();
        var (nibble, two) = (Vector256.Create((byte)15), Vector256.Create((byte)0x30));
        return (
            (front & nibble) | ((high << 4).AsByte() & two), (back & nibble) | ((high << 2).AsByte() & two),
            ((front.AsUInt16() >>> 4).AsByte() & nibble) | (high.AsByte() & two), ((back.AsUInt16() >>> 4).AsByte() & nibble) | ((high >>> 2).AsByte() & two));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<int> Product(Vector256<byte> weights, byte* activations, Vector256<short> scales) =>
        Avx2.MultiplyAddAdjacent(Avx2.MultiplyAddAdjacent(weights, Vector256.Load((sbyte*)activations)), scales);
}
