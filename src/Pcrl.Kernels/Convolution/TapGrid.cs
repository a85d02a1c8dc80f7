namespace Pcrl.Kernels.Convolution;

/// <summary>
/// The same as <see cref="Gather"/> for kernels that compute their indices: output row (y, x) of the grid meets, at tap t, input pixel
/// (y·stride + dy[t], x·stride + dx[t]) and is written to output pixel (first + y·step, …). Convolution, transposed convolution and linear
/// layer all have this form; a transposed convolution falls apart into stride² of them.
/// </summary>
internal sealed class TapGrid
{
    /// <summary>Output rows: height and width of the grid.</summary>
    public required Size Extent { get; init; }

    /// <summary>Step in the input from one output row to the next.</summary>
    public required Size Stride { get; init; }

    /// <summary>First output pixel.</summary>
    public required Size First { get; init; }

    /// <summary>Step in the output from one output row to the next.</summary>
    public required Size Step { get; init; }

    /// <summary>The taps: where they read, and their index i·kernel W + j in the weights.</summary>
    public required Tap[] Taps { get; init; }

    public static TapGrid[] Of(Conv2d op, Shape input)
    {
        var output = op.OutputShape(input);
        var taps = from i in Enumerable.Range(0, op.Kernel.H)
                   from j in Enumerable.Range(0, op.Kernel.W)
                   select new Tap(i * op.Dilation.H - op.Padding.H, j * op.Dilation.W - op.Padding.W, i * op.Kernel.W + j);
        return [new TapGrid { Extent = new(output.H, output.W), Stride = op.Stride, First = 0, Step = 1, Taps = [.. taps] }];
    }

    public static TapGrid[] Of(ConvTranspose2d op, Shape input)
    {
        var output = op.OutputShape(input);
        var grids = from y in Enumerable.Range(0, Math.Min(op.Stride.H, output.H))
                    from x in Enumerable.Range(0, Math.Min(op.Stride.W, output.W))
                    select new TapGrid
                    {
                        Extent = new((output.H - y + op.Stride.H - 1) / op.Stride.H, (output.W - x + op.Stride.W - 1) / op.Stride.W),
                        Stride = 1,
                        First = new(y, x),
                        Step = op.Stride,
                        // Input pixel s reaches output pixel s·stride − padding + tap: only taps of this phase divide.
                        Taps = [.. from i in Enumerable.Range(0, op.Kernel.H)
                                   from j in Enumerable.Range(0, op.Kernel.W)
                                   let dy = y + op.Padding.H - i
                                   let dx = x + op.Padding.W - j
                                   where dy % op.Stride.H == 0 && dx % op.Stride.W == 0
                                   select new Tap(dy / op.Stride.H, dx / op.Stride.W, i * op.Kernel.W + j)],
                    };
        return [.. grids];
    }

    /// <summary>A tap of the kernel.</summary>
    internal readonly record struct Tap(int Dy, int Dx, int Index);
}
