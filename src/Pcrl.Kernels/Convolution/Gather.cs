namespace Pcrl.Kernels.Convolution;

/// <summary>
/// Which input pixel every output pixel meets at every tap of the kernel. With this table convolution, transposed convolution and linear
/// layer are one and the same job on every device: a matrix product whose left rows are gathered, without ever building them.
/// A transposed convolution falls apart into stride² gathers, one for each phase of the output.
/// </summary>
internal sealed class Gather
{
    /// <summary>Kernel taps (row-major index i·kernel W + j) that this gather uses.</summary>
    public required int[] Taps { get; init; }

    /// <summary>[taps, rows] index of the input pixel within its image, −1 where the tap lies in the padding.</summary>
    public required int[] Source { get; init; }

    /// <summary>[rows] index of the output pixel within its image.</summary>
    public required int[] Target { get; init; }

    /// <summary>Output pixels per image.</summary>
    public int Rows => Target.Length;

    public static Gather[] Of(Conv2d op, Shape input)
    {
        var output = op.OutputShape(input);
        return [Build(op.Kernel, output, (0, 0), 1, (y, i) => y * op.Stride.H - op.Padding.H + i * op.Dilation.H,
            (x, j) => x * op.Stride.W - op.Padding.W + j * op.Dilation.W, input)];
    }

    /// <summary>
    /// A convolution without dilation along x whose padding lies in memory, each kernel row read as one tap: tap i begins at the first pixel of
    /// kernel row i.
    /// </summary>
    public static Gather OfRows(Conv2d op, Shape padded)
    {
        var output = (op with { Padding = 0 }).OutputShape(padded);
        return Build(new Size(op.Kernel.H, 1), output, (0, 0), 1, (y, i) => y * op.Stride.H + i * op.Dilation.H, (x, _) => x * op.Stride.W, padded);
    }

    public static Gather[] Of(ConvTranspose2d op, Shape input)
    {
        var output = op.OutputShape(input);
        var gathers = new List<Gather>();
        for (int phaseY = 0; phaseY < Math.Min(op.Stride.H, output.H); phaseY++)
            for (int phaseX = 0; phaseX < Math.Min(op.Stride.W, output.W); phaseX++)
                gathers.Add(Build(op.Kernel, output, (phaseY, phaseX), op.Stride,
                    (y, i) => ConvTranspose2d.Source(y + op.Padding.H - i, op.Stride.H, input.H, out int source) ? source : -1,
                    (x, j) => ConvTranspose2d.Source(x + op.Padding.W - j, op.Stride.W, input.W, out int source) ? source : -1, input));
        return [.. gathers];
    }

    private static Gather Build(Size kernel, Shape output, (int Y, int X) first, Size step, Func<int, int, int> sourceY, Func<int, int, int> sourceX, Shape input)
    {
        int[] ys = Positions(first.Y, output.H, step.H), xs = Positions(first.X, output.W, step.W);
        var (fromY, usedY) = Axis(ys, kernel.H, input.H, sourceY);
        var (fromX, usedX) = Axis(xs, kernel.W, input.W, sourceX);
        // A tap that no output pixel meets costs nothing.
        (int I, int J)[] taps = [.. from i in usedY from j in usedX select (i, j)];
        int rows = ys.Length * xs.Length;
        var source = new int[taps.Length * rows];
        int at = 0;
        foreach (var (i, j) in taps)
            foreach (int y in fromY[i])
                foreach (int x in fromX[j])
                    source[at++] = y < 0 || x < 0 ? -1 : y * input.W + x;
        var target = new int[rows];
        for (int row = 0; row < rows; row++)
            target[row] = ys[row / xs.Length] * output.W + xs[row % xs.Length];
        return new Gather { Taps = [.. taps.Select(t => t.I * kernel.W + t.J)], Source = source, Target = target };
    }

    private static int[] Positions(int first, int end, int step)
    {
        var positions = new List<int>();
        for (int p = first; p < end; p += step)
            positions.Add(p);
        return [.. positions];
    }

    /// <summary>[taps, positions] input coordinate or −1, and the taps that reach the input at all.</summary>
    private static (int[][] From, int[] Used) Axis(int[] positions, int taps, int extent, Func<int, int, int> source)
    {
        int[][] from = [.. Enumerable.Range(0, taps).Select(tap =>
            positions.Select(p => source(p, tap) is var s && (uint)s < (uint)extent ? s : -1).ToArray())];
        return (from, [.. Enumerable.Range(0, taps).Where(tap => from[tap].Any(s => s >= 0))]);
    }
}
