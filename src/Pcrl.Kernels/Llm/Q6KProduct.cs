namespace Pcrl.Kernels.Llm;

/// <summary>
/// Products of Q6_K weights, as a GGUF file has them, with <see cref="QuantisedRows"/>. A block of 256: the low four bits of each weight in two
/// halves of 64 bytes, its high two bits in two halves of 32, 16 signed scales, one half-precision scale. A weight is scale · sub-scale · ((0…63) − 32).
/// </summary>
internal static unsafe partial class Q6KProduct
{
    /// <summary>Bytes of a block.</summary>
    public const int BlockBytes = 210;

    private const int HighBits = 128, Scales = 192, Scale = 208, Ahead = 4 * BlockBytes;

    /// <summary>The products of a weight row with the rows of a tile.</summary>
    /// <param name="weights">The weight row.</param>
    /// <param name="blocks">Blocks of a row.</param>
    /// <param name="tile">The tile's block 0 of row 0.</param>
    /// <param name="rows">Rows of the tile.</param>
    /// <param name="result">[rows]</param>
    /// <param name="stride">Floats from one result to the next.</param>
    public static void Multiply(byte* weights, int blocks, byte* tile, int rows, float* result, nint stride)
    {
        if (QuantisedRows.Has512)
            Multiply512(weights, blocks, tile, rows, result, stride);
        else
            Multiply256(weights, blocks, tile, rows, result, stride);
    }
}
