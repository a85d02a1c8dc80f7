namespace Pcrl.Kernels;

/// <summary>Shape of an activation tensor, stored row-major as [N, H, W, C]. A matrix [rows, columns] is [rows, 1, 1, columns].</summary>
/// <param name="N">Images (or rows of a matrix).</param>
/// <param name="H">Height in pixels.</param>
/// <param name="W">Width in pixels.</param>
/// <param name="C">Channels, contiguous in memory.</param>
public readonly record struct Shape(int N, int H, int W, int C)
{
    /// <summary>Number of elements.</summary>
    public long Count => (long)N * H * W * C;

    /// <summary>Elements of one image.</summary>
    public long ImageCount => (long)H * W * C;

    /// <summary>Pixels of one image.</summary>
    public int Pixels => H * W;

    /// <summary>Shape of a matrix.</summary>
    public static Shape Matrix(int rows, int columns) => new(rows, 1, 1, columns);

    /// <summary>As <c>[N, H, W, C]</c>.</summary>
    public override string ToString() => $"[{N}, {H}, {W}, {C}]";
}

/// <summary>A pair of a vertical and a horizontal extent, such as a kernel size or a stride.</summary>
/// <param name="H">Vertical.</param>
/// <param name="W">Horizontal.</param>
public readonly record struct Size(int H, int W)
{
    /// <summary>The same extent both ways.</summary>
    public static implicit operator Size(int both) => new(both, both);

    /// <summary>As <c>HxW</c>.</summary>
    public override string ToString() => $"{H}x{W}";
}
