using System.Runtime.CompilerServices;

namespace Pcrl.Kernels.Convolution;

/// <summary>What a tile kernel needs beside its weights: where the left rows come from and what happens to the sums.</summary>
internal unsafe struct TileJob
{
    /// <summary>[taps, row stride] start of the input channels of a row at a tap.</summary>
    public float** Source;

    /// <summary>Pointers from one tap to the next.</summary>
    public int SourceStride;

    /// <summary>Taps.</summary>
    public int Taps;

    /// <summary>Input channels per tap.</summary>
    public int Depth;

    /// <summary>Floats from a row's channels to those that the next tile will read in its place, to be fetched meanwhile; 0 if that is not known.</summary>
    public long Ahead;

    /// <summary>Packed weights of the panel.</summary>
    public float* Weight;

    /// <summary>[panel width].</summary>
    public float* Bias;

    /// <summary>[rows] offset of the row's first output element, from <see cref="Output"/> and from <see cref="Residual"/>.</summary>
    public long* Target;

    /// <summary>First output element of the panel's first column, at offset 0.</summary>
    public float* Output;

    /// <summary>The same place in the residual, or null.</summary>
    public float* Residual;

    /// <summary>Negative results become zero.</summary>
    public bool Relu;
}

/// <summary>
/// A tile kernel: a full tile of output rows × columns held in registers over all taps and channels, then bias, residual, ReLU and store.
/// </summary>
internal static unsafe class Tile
{
    public static int Rows(int vectorBits) => vectorBits == 512 ? Tile512.Rows : Tile256.Rows;

    public static int Columns(int vectorBits) => vectorBits == 512 ? Tile512.Columns : Tile256.Columns;

    /// <summary>
    /// Computes <paramref name="rows"/> × <paramref name="columns"/> of a tile, fewer than it has at the edges.
    /// The source must hold pointers for all its rows even then.
    /// </summary>
    public static void Run(int vectorBits, in TileJob job, int rows, int columns)
    {
        int tileRows = Rows(vectorBits), tileColumns = Columns(vectorBits);
        if (rows == tileRows && columns == tileColumns)
            Full(vectorBits, job);
        else
            Edge(vectorBits, job, rows, columns, tileRows, tileColumns);
    }

    /// <summary>Computes a full tile into scratch and finishes the part that exists one by one.</summary>
    [SkipLocalsInit]
    private static void Edge(int vectorBits, in TileJob job, int rows, int columns, int tileRows, int tileColumns)
    {
        float* sums = stackalloc float[tileRows * tileColumns];
        long* target = stackalloc long[tileRows];
        for (int row = 0; row < tileRows; row++)
            target[row] = row * tileColumns;
        var whole = job;
        whole.Target = target;
        whole.Output = sums;
        whole.Residual = null;
        whole.Relu = false;
        Full(vectorBits, whole);
        for (int row = 0; row < rows; row++)
            for (int column = 0; column < columns; column++)
            {
                float value = sums[row * tileColumns + column];
                long at = job.Target[row] + column;
                if (job.Residual != null)
                    value += job.Residual[at];
                job.Output[at] = job.Relu && value < 0 ? 0 : value; // not Max: a NaN must stay one
            }
    }

    /// <summary>Computes a full tile.</summary>
    public static void Full(int vectorBits, in TileJob job)
    {
        if (vectorBits == 512)
            Tile512.Run(job);
        else
            Tile256.Run(job);
    }
}
