using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pcrl.Kernels.Llm;

/// <summary>
/// Rows of activations as 8-bit integers, in blocks of 256 with one scale each: the numbers of ggml's Q8_K, laid out for <see cref="Q4KProduct"/> and
/// <see cref="Q6KProduct"/>. Tiles of up to <see cref="TileRows"/> rows follow each other; in a tile, the same block of all rows, then the next block.
/// </summary>
internal static unsafe class QuantisedRows
{
    /// <summary>Whether this processor has the instructions of the products: AVX2 and fused multiply-add.</summary>
    public static bool IsSupported => Avx2.IsSupported && Fma.IsSupported;

    /// <summary>Whether it has those of the wider ones, AVX-512 with its byte and word extensions (Intel since Ice Lake, AMD since Zen 4).</summary>
    public static bool Has512 => Avx512BW.IsSupported && Avx512Vbmi.IsSupported;

    /// <summary>Elements of a block.</summary>
    public const int Block = 256;

    /// <summary>Boundary at which rows begin.</summary>
    public const int Alignment = 64;

    /// <summary>Most rows of a tile: as many as stay in the first-level cache beside a block of weights.</summary>
    public const int TileRows = 32;

    /// <summary>Bytes of a block: 256 integers, their 16 sums of 16 and 8 sums of 32 as 16-bit integers, the scale, padding up to whole cache lines.</summary>
    public const int BlockBytes = 320;

    public const int SumsOf16 = 256, SumsOf32 = 288, Scale = 304;

    /// <summary>Bytes of rows of a length.</summary>
    public static long Bytes(long rows, long length) => rows * (length / Block) * BlockBytes;

    /// <summary>Where block 0 of a row is, and the bytes from one of its blocks to the next.</summary>
    public static (long Offset, int Stride) Place(int row, int rows, int blocks)
    {
        int first = row / TileRows * TileRows, inTile = Math.Min(TileRows, rows - first);
        return (((long)first * blocks + (row - first)) * BlockBytes, inTile * BlockBytes);
    }

    /// <summary>
    /// Quantises a row. The element furthest from 0 (the first of equals) becomes -127. NaN counts as 0, as it does in ggml; with an infinity among
    /// them all integers are 0 and the scale is infinite, so that products are NaN.
    /// </summary>
    /// <param name="row">[blocks · 256]</param>
    /// <param name="blocks">Blocks of the row.</param>
    /// <param name="to">The row's block 0.</param>
    /// <param name="stride">Bytes from one of its blocks to the next.</param>
    public static void Quantise(float* row, int blocks, byte* to, int stride)
    {
        for (int block = 0; block < blocks; block++, row += Block, to += stride)
            QuantiseBlock(row, to);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void QuantiseBlock(float* x, byte* to)
    {
        var largest = Vector256<float>.Zero;
        for (int i = 0; i < Block; i += Vector256<float>.Count)
        {
            var size = Vector256.Abs(Vector256.Load(x + i));
            largest = Vector256.ConditionalSelect(Vector256.GreaterThan(size, largest), size, largest);
        }
        float most = 0;
        for (int lane = 0; lane < Vector256<float>.Count; lane++)
            most = largest[lane] > most ? largest[lane] : most;
        if (float.IsInfinity(127 / most)) // 0, or below 4e-37 and as good as that
        {
            new Span<byte>(to, BlockBytes).Clear();
            return;
        }
        int at = 0;
        while (Math.Abs(x[at]) != most)
            at++;
        float inverse = -127f / x[at];
        short* sums16 = (short*)(to + SumsOf16), sums32 = (short*)(to + SumsOf32);
        for (int i = 0; i < Block; i += 16)
        {
            var (first, second) = (Round(x + i, inverse), Round(x + i + 8, inverse));
            var (front, back) = (Sse2.PackSignedSaturate(first.GetLower(), first.GetUpper()), Sse2.PackSignedSaturate(second.GetLower(), second.GetUpper()));
            Sse2.PackSignedSaturate(front, back).Store((sbyte*)to + i);
            sums16[i / 16] = Vector128.Sum(front + back);
        }
        for (int i = 0; i < Block / 32; i++)
            sums32[i] = (short)(sums16[2 * i] + sums16[2 * i + 1]);
        *(float*)(to + Scale) = 1 / inverse;
    }

    /// <summary>Scaled values to the nearest integers, ties to even, at most 127.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<int> Round(float* x, float scale)
    {
        var scaled = Vector256.Load(x) * scale;
        scaled = Vector256.ConditionalSelect(Vector256.Equals(scaled, scaled), scaled, Vector256<float>.Zero);
        return Vector256.Min(Avx.ConvertToVector256Int32(scaled), Vector256.Create(127));
    }
}
