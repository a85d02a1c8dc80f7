namespace Pcrl.Kernels.TensorCores;

/// <summary>How a block of threads cuts the matrix product: a block computes Rows × Columns, each of its parts PartRows × PartColumns.</summary>
/// <param name="Rows">Output rows (pixels) of a block.</param>
/// <param name="Columns">Output columns (channels) of a block.</param>
/// <param name="PartRows">Rows of a part: a multiple of 16, or of 64 for warpgroups.</param>
/// <param name="PartColumns">Columns of a part, a multiple of 32.</param>
/// <param name="Stages">Steps of <see cref="Depth"/> that are in shared memory at once.</param>
/// <param name="Once">Microseconds that a multiprocessor full of blocks needs before and after its steps, and</param>
/// <param name="Step">for a step: fitted to what <c>pcrl-bench gpu --tiles</c> measured on an H200. Other cards are slower, but by much the same factor.</param>
/// <param name="Warpgroups">A part is done by four warps with <c>wgmma</c> (Hopper), else by one warp with <c>mma.sync</c>.</param>
internal sealed record TensorTile(int Rows, int Columns, int PartRows, int PartColumns, int Stages, double Once, double Step, bool Warpgroups = false)
{
    /// <summary>Products of a step: a line of shared memory is 64 values of two bytes, in eight chunks of 16 bytes.</summary>
    public const int Depth = 64;

    /// <summary>Bytes of a line.</summary>
    public const int LineBytes = Depth * 2;

    /// <summary>Values of a chunk, which is what one copy instruction and one lane of <c>ldmatrix</c> move.</summary>
    public const int Chunk = 8;

    /// <summary>The table that layers choose from.</summary>
    public static IReadOnlyList<TensorTile> All { get; } =
    [
        new(192, 256, 64, 256, Stages: 4, Once: 7.75, Step: 0.84, Warpgroups: true),
        new(128, 256, 64, 256, Stages: 4, Once: 4.0, Step: 0.56, Warpgroups: true),
        new(256, 128, 128, 128, Stages: 4, Once: 4.5, Step: 0.64, Warpgroups: true),
        new(128, 128, 64, 128, Stages: 3, Once: 4.0, Step: 0.8, Warpgroups: true),
        new(128, 64, 64, 64, Stages: 4, Once: 2.75, Step: 0.46, Warpgroups: true),
        new(64, 128, 64, 128, Stages: 4, Once: 2.5, Step: 0.42, Warpgroups: true),
        new(64, 64, 64, 64, Stages: 4, Once: 2.0, Step: 0.42, Warpgroups: true),
        new(128, 256, 64, 64, Stages: 3, Once: 3.75, Step: 1.22),
        new(128, 128, 64, 64, Stages: 3, Once: 1.75, Step: 0.62),
        new(128, 64, 64, 32, Stages: 4, Once: 1.25, Step: 0.4),
        new(64, 64, 32, 32, Stages: 4, Once: 1.25, Step: 0.42),
    ];

    /// <summary>Threads of a block.</summary>
    public int Threads => Rows / PartRows * (Columns / PartColumns) * PartThreads;

    /// <summary>Sums that a thread holds.</summary>
    public int ThreadSums => PartRows * PartColumns / PartThreads;

    /// <summary>Shared memory of one stage: the lines of the input, then those of the weights.</summary>
    public int StageBytes => (Rows + Columns) * LineBytes;

    /// <summary>Shared memory of a block.</summary>
    public int SharedBytes => Stages * StageBytes;

    /// <summary>Blocks that a multiprocessor of compute capability 8.0 or 9.0 has room for; registers are limited so that it has.</summary>
    public int BlocksTogether => Math.Max(1, Math.Min((Warpgroups ? 227 : 163) * 1024 / (SharedBytes + 1024), 65536 / (Threads * (ThreadSums + 56))));

    /// <summary>Whether the kernel that gathers single values fits into the registers too.</summary>
    public bool GathersValues => ThreadSums <= 64 && int.IsPow2(Rows);

    private int PartThreads => Warpgroups ? 128 : 32;

    /// <summary>
    /// Where a chunk of a line lies in shared memory. Lines are 128 bytes, so chunk c of eight neighbouring lines would fall on the same banks;
    /// the exclusive or spreads them, and <c>ldmatrix</c> reads eight lines without a conflict.
    /// </summary>
    public static int Swizzle(int line, int chunk) => line * LineBytes + ((chunk ^ (line & 7)) * Chunk * 2);

    /// <summary>
    /// Output column that place <paramref name="place"/> of a tile computes. The tensor cores give a lane two neighbouring columns of each eight;
    /// with the columns of each 32 dealt out this way, its shares of four such products are eight neighbours: one access of 16 bytes.
    /// </summary>
    public static int Column(int place)
    {
        int of32 = place % 32, product = of32 / 8, lane = of32 % 8 / 2;
        return place - of32 + lane * 8 + product * 2 + place % 2;
    }

    /// <summary>
    /// The tile that should be done first: blocks go over the multiprocessors in rounds, and every round takes what the tile takes. Where there are
    /// many rounds, the last one is on average half full.
    /// </summary>
    /// <param name="rows">Output rows of the layer.</param>
    /// <param name="columns">Output columns of the layer.</param>
    /// <param name="steps">Steps of <see cref="Depth"/> products.</param>
    /// <param name="wholeChunks">Whether the kernel copies chunks; gathering single values needs the registers that large parts hold sums in.</param>
    /// <param name="multiprocessors">Of the card.</param>
    /// <param name="sharedBytes">Shared memory that a block may have.</param>
    /// <param name="hopper">Whether the card has <c>wgmma</c>.</param>
    /// <exception cref="NotSupportedException">No tile fits.</exception>
    public static TensorTile Choose(long rows, int columns, int steps, bool wholeChunks, int multiprocessors, int sharedBytes, bool hopper)
    {
        const int Many = 4;
        return All.Where(t => t.Warpgroups == hopper && t.SharedBytes <= sharedBytes && (wholeChunks || t.GathersValues)).MinBy(Time)
            ?? throw new NotSupportedException($"a tile needs more than {sharedBytes} bytes of shared memory");

        double Time(TensorTile tile)
        {
            double rounds = (double)(Blocks(rows, tile.Rows) * Blocks(columns, tile.Columns)) / (multiprocessors * tile.BlocksTogether);
            return (rounds < Many ? Math.Ceiling(rounds) : rounds + 0.5) * (tile.Once + steps * tile.Step);
        }

        static long Blocks(long of, int by) => (of + by - 1) / by;
    }
}
