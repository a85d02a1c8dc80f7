namespace Pcrl.Kernels.Llm;

/// <summary>
/// Products of Q4_K weights with <see cref="QuantisedRows"/>. Eight weight rows lie together, block by block, as llama.cpp lays them out anew for wide processors
/// (Q4_K 8x8): 8 half-precision scales, 8 of the minima, 8 sub-blocks of 12 bytes with the 6-bit scales and minima of the eight rows,
/// then in turn 8 bytes of each row. A weight is scale · sub-block scale · (0…15) − minimum · sub-block minimum.
/// </summary>
internal static unsafe partial class Q4KProduct
{
    /// <summary>Weight rows that lie together.</summary>
    public const int Group = 8;

    /// <summary>Bytes of a block of the group.</summary>
    public const int BlockBytes = 1152;

    private const int Scales = 32, Nibbles = 128, SubBlocks = 8, Ahead = 2 * BlockBytes;

    /// <summary>The products of eight weight rows with the rows of a tile.</summary>
    /// <param name="weights">The group's block 0; the blocks follow each other.</param>
    /// <param name="blocks">Blocks of a row.</param>
    /// <param name="tile">The tile's block 0 of row 0.</param>
    /// <param name="rows">Rows of the tile.</param>
    /// <param name="result">[rows, 8]</param>
    /// <param name="stride">Floats from one row of the result to the next.</param>
    public static void Multiply(byte* weights, int blocks, byte* tile, int rows, float* result, nint stride)
    {
        if (QuantisedRows.Has512)
            Multiply512(weights, blocks, tile, rows, result, stride);
        else
            Multiply256(weights, blocks, tile, rows, result, stride);
    }
}
