namespace Pcrl.Kernels.Pooling;

/// <summary>Maximum over a window; pixels of the padding do not take part, a NaN in the window wins.</summary>
/// <param name="Kernel">Window size.</param>
public sealed record MaxPool2d(Size Kernel) : Operator
{
    /// <summary>Step of the window in input pixels.</summary>
    public Size Stride { get; init; } = 1;

    /// <summary>Pixels around the input, on each side; at most half the window.</summary>
    public Size Padding { get; init; } = 0;

    /// <inheritdoc/>
    public override Shape OutputShape(Shape input)
    {
        Check(input.N > 0 && input.C > 0, $"input is {input}");
        return new(input.N, Extent(input.H, Kernel.H, Stride.H, Padding.H), Extent(input.W, Kernel.W, Stride.W, Padding.W), input.C);

        int Extent(int size, int kernel, int stride, int padding)
        {
            Check(size > 0 && kernel > 0 && stride > 0 && padding >= 0 && padding <= kernel / 2, "sizes and strides must be positive, padding at most half the window");
            long room = size + 2L * padding - kernel;
            Check(room >= 0, $"the window is larger than the padded input {input}");
            return (int)(room / stride) + 1;
        }
    }

    /// <inheritdoc/>
    public override long Flops(Shape input) => OutputShape(input).Count * Kernel.H * Kernel.W;

    /// <inheritdoc/>
    public override double At(in OperatorInputs inputs, int n, int y, int x, int c)
    {
        var shape = inputs.Shape;
        var (top, bottom) = Window(y, Kernel.H, Stride.H, Padding.H, shape.H);
        var (left, right) = Window(x, Kernel.W, Stride.W, Padding.W, shape.W);
        double best = double.NegativeInfinity;
        for (int i = top; i < bottom; i++)
            for (int j = left; j < right; j++)
                best = Math.Max(best, inputs.X[((n * shape.H + i) * shape.W + j) * shape.C + c]);
        return best;
    }

    /// <summary>The part of a window that lies in the input, end excluded.</summary>
    internal static (int First, int End) Window(int position, int kernel, int stride, int padding, int extent)
    {
        int first = position * stride - padding;
        return (Math.Max(first, 0), Math.Min(first + kernel, extent));
    }
}
