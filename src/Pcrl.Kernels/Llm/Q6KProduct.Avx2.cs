using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pcrl.Kernels.Llm;

internal static unsafe partial class Q6KProduct
{
    /// <summary><see cref="Multiply"/> with AVX2.</summary>
    [SkipLocalsInit, MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Multiply256(byte* weights, int blocks, byte* tile, int rows, float* result, nint stride)
    {
        byte* memory = stackalloc byte[(QuantisedRows.TileRows + 8) * 32 + 32];
        short* scales = (short*)(((nuint)memory + 31) & ~(nuint)31); // of 32 weights each, sixteen lanes
        float* sums = (float*)(scales + 8 * 16);
        for (int row = 0; row < rows; row++)
            Vector256<float>.Zero.StoreAligned(sums + 8 * row);
        for (int block = 0; block < blocks; block++, weights += BlockBytes)
        {
            for (int line = 0; line < 4; line++)
                Sse.Prefetch0(weights + Ahead + 64 * line);
            var (w0, w1, w2, w3) = Unpack256(weights, weights + HighBits);
            var (w4, w5, w6, w7) = Unpack256(weights + 64, weights + HighBits + 32);
            var narrow = Avx2.ConvertToVector256Int16((sbyte*)weights + Scales);
            var (front, back) = (Avx2.Permute4x64(narrow.AsInt64(), 0b01_00_01_00).AsByte(), Avx2.Permute4x64(narrow.AsInt64(), 0b11_10_11_10).AsByte());
            var lanes = Lanes;
            for (int pair = 0; pair < 4; pair++, lanes += Vector256.Create((byte)4))
            {
                Avx2.Shuffle(front, lanes).AsInt16().StoreAligned(scales + 16 * pair);
                Avx2.Shuffle(back, lanes).AsInt16().StoreAligned(scales + 64 + 16 * pair);
            }
            var offsets = narrow << 5; // of the 32 that each weight is too large
            var scale = HalfPrecision.ToSingle(Vector128.Create(*(ushort*)(weights + Scale)));
            byte* a = tile + (long)block * rows * QuantisedRows.BlockBytes;
            for (int row = 0; row < rows; row++, a += QuantisedRows.BlockBytes)
            {
                var first = (Product(w0, a, scales) + Product(w1, a + 32, scales + 16)) + (Product(w2, a + 64, scales + 32) + Product(w3, a + 96, scales + 48));
                var second = (Product(w4, a + 128, scales + 64) + Product(w5, a + 160, scales + 80)) + (Product(w6, a + 192, scales + 96) + Product(w7, a + 224, scales + 112));
                var offset = Avx2.MultiplyAddAdjacent(offsets, Vector256.Load((short*)(a + QuantisedRows.SumsOf16)));
                var value = Vector256.ConvertToSingle(first + second - offset);
                var factor = scale * Vector256.Create(*(float*)(a + QuantisedRows.Scale));
                Fma.MultiplyAdd(value, factor, Vector256.LoadAligned(sums + 8 * row)).StoreAligned(sums + 8 * row);
            }
        }
        for (int row = 0; row < rows; row++)
            result[row * stride] = Vector256.Sum(Vector256.LoadAligned(sums + 8 * row));
    }

    /// <summary>The first of eight scales in all lanes of the lower half, the second in those of the upper.</summary>
    private static Vector256<byte> Lanes
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        get => Vector256.Create(Vector128.Create((ushort)0x0100), Vector128.Create((ushort)0x0302)).AsByte();
    }

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
    private static Vector256<int> Product(Vector256<byte> weights, byte* activations, short* scales) =>
        Avx2.MultiplyAddAdjacent(Avx2.MultiplyAddAdjacent(weights, Vector256.Load((sbyte*)activations)), Vector256.LoadAligned(scales));
}
