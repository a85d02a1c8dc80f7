namespace Pcrl.Kernels.Pooling;

/// <summary>
/// Mean over windows that cut the input into a grid of a fixed size, as in PyTorch: cell i spans ⌊i·H/size⌋ … ⌈(i+1)·H/size⌉ − 1. Neighbouring
/// cells overlap where the sizes do not divide. Size 1 is the global average pool.
/// </summary>
/// <param name="Grid">Output height and width.</param>
public sealed record AdaptiveAvgPool2d(Size Grid) : Operator
{
    /// <inheritdoc/>
    public override Shape OutputShape(Shape input)
    {
        Check(input is { N: > 0, H: > 0, W: > 0, C: > 0 } && Grid is { H: > 0, W: > 0 }, $"input is {input}");
        return input with { H = Grid.H, W = Grid.W };
    }

    /// <inheritdoc/>
    public override long Flops(Shape input) => Math.Max(OutputShape(input).Count, input.Count);

    /// <inheritdoc/>
    public override double At(in OperatorInputs inputs, int n, int y, int x, int c)
    {
        var shape = inputs.Shape;
        var (top, bottom) = Cell(y, Grid.H, shape.H);
        var (left, right) = Cell(x, Grid.W, shape.W);
        double sum = 0;
        for (int i = top; i < bottom; i++)
            for (int j = left; j < right; j++)
                sum += inputs.X[((n * shape.H + i) * shape.W + j) * shape.C + c];
        return sum / ((bottom - top) * (right - left));
    }

    /// <summary>The input pixels of a cell, end excluded.</summary>
    internal static (int First, int End) Cell(int index, int cells, int extent) =>
        ((int)((long)index * extent / cells), (int)(((index + 1L) * extent + cells - 1) / cells));
}
