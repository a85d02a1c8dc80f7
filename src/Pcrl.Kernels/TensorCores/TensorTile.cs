namespace Pcrl.Kernels.TensorCores;

/// <summary>How a block of threads cuts the matrix product: a block computes Rows × Columns, each of its warps WarpRows × WarpColumns.</summary>
/// <param name="Rows">Output rows (pixels) of a block.</param>
/// <param name="Columns">Output columns (channels) of a block.</param>
/// <param name="WarpRows">Rows of a warp, a multiple of 16.</param>
/// <param name="WarpColumns">Columns of a warp, a multiple of 32.</param>
/// <param name="Stages">Steps of <see cref="Depth"/> that are in shared memory at once, all but one of them on their way.</param>
/// <param name="Efficiency">Share of the arithmetic that the tile is expected to reach; an estimate from shared-memory traffic, not yet measured.</param>
internal sealed record TensorTile(int Rows, int Columns, int WarpRows, int WarpColumns, int Stages, double Efficiency)
{
    /// <summary>Products of a step: a line of shared memory is 64 values of two bytes, in eight chunks of 16 bytes.</summary>
    public const int Depth = 64;

    /// <summary>Bytes of a line.</summary>
    public const int LineBytes = Depth * 2;

    /// <summary>Values of a chunk, which is what one copy instruction and one lane of <c>ldmatrix</c> move.</summary>
    public const int Chunk = 8;

    /// <summary>The table that layers choose from, largest first.</summary>
    public static IReadOnlyList<TensorTile> All { get; } =
    [
        new(128, 256, 64, 64, Stages: 3, Efficiency: 1.0),
        new(128, 128, 64, 64, Stages: 3, Efficiency: 0.9),
        new(128, 64, 64, 32, Stages: 4, Efficiency: 0.7),
        new(64, 64, 32, 32, Stages: 4, Efficiency: 0.5),
    ];

    /// <summary>Threads of a block.</summary>
    public int Threads => Rows / WarpRows * (Columns / WarpColumns) * 32;

    /// <summary>Shared memory of one stage: the lines of the input, then those of the weights.</summary>
    public int StageBytes => (Rows + Columns) * LineBytes;

    /// <summary>Shared memory of a block.</summary>
    public int SharedBytes => Stages * StageBytes;

    /// <summary>
    /// Where a chunk of a line lies in shared memory. Lines are 128 bytes, so chunk c of eight neighbouring lines would fall on the same banks;
    /// the exclusive or spreads them, and <c>ldmatrix</c> reads eight lines without a conflict.
    /// </summary>
    public static int Swizzle(int line, int chunk) => line * LineBytes + ((chunk ^ (line & 7)) * Chunk * 2);

    /// <summary>
    /// Output column that place <paramref name="place"/> of a tile computes. <c>mma</c> gives a lane two neighbouring columns of each eight;
    /// with the columns of each 32 dealt out this way, its shares of four such products are eight neighbours: one access of 16 bytes.
    /// </summary>
    public static int Column(int place)
    {
        int of32 = place % 32, product = of32 / 8, lane = of32 % 8 / 2;
        return place - of32 + lane * 8 + product * 2 + place % 2;
    }

    /// <summary>
    /// The tile that should be done first, if a multiprocessor works its blocks off at the tile's efficiency: the largest is best unless it leaves
    /// multiprocessors idle.
    /// </summary>
    /// <param name="rows">Output rows of the layer.</param>
    /// <param name="columns">Output columns of the layer.</param>
    /// <param name="wholeChunks">Whether the kernel copies chunks; gathering single values needs the registers that large warps hold sums in.</param>
    /// <param name="multiprocessors">Of the card.</param>
    /// <param name="sharedBytes">Shared memory that a block may have.</param>
    /// <exception cref="NotSupportedException">No tile fits.</exception>
    public static TensorTile Choose(long rows, int columns, bool wholeChunks, int multiprocessors, int sharedBytes)
    {
        double Time(TensorTile tile) =>
            Blocks(Blocks(rows, tile.Rows) * Blocks(columns, tile.Columns), multiprocessors) * tile.Rows * tile.Columns / tile.Efficiency;
        return All.Where(t => t.SharedBytes <= sharedBytes && (wholeChunks || t.GathersValues)).MinBy(Time)
            ?? throw new NotSupportedException($"a tile needs more than {sharedBytes} bytes of shared memory");

        static long Blocks(long of, int by) => (of + by - 1) / by;
    }

    /// <summary>Whether the kernel that gathers single values fits into the registers too.</summary>
    public bool GathersValues => WarpRows * WarpColumns <= 64 * 32;
}
