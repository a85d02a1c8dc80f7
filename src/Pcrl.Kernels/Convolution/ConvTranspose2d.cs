namespace Pcrl.Kernels.Convolution;

/// <summary>
/// Transposed convolution as in PyTorch, the gradient of a convolution with respect to its input; with bias, residual and ReLU.
/// Weights are [in, out, kernel H, kernel W].
/// </summary>
/// <param name="In">Input channels.</param>
/// <param name="Out">Output channels.</param>
/// <param name="Kernel">Kernel size.</param>
public sealed record ConvTranspose2d(int In, int Out, Size Kernel) : Operator
{
    /// <summary>Distance in output pixels between neighbouring input pixels.</summary>
    public Size Stride { get; init; } = 1;

    /// <summary>Output pixels cut away on each side.</summary>
    public Size Padding { get; init; } = 0;

    /// <summary>Output pixels added below and to the right.</summary>
    public Size OutputPadding { get; init; } = 0;

    /// <summary>Negative results become zero.</summary>
    public bool Relu { get; init; }

    /// <inheritdoc/>
    public override long WeightCount => (long)In * Out * Kernel.H * Kernel.W;

    /// <inheritdoc/>
    public override int BiasCount => Out;

    /// <inheritdoc/>
    public override bool TakesResidual => true;

    /// <inheritdoc/>
    public override Shape OutputShape(Shape input)
    {
        Check(In > 0 && Out > 0 && input.C == In && input.N > 0, $"input is {input}");
        return new(input.N, Extent(input.H, Kernel.H, Stride.H, Padding.H, OutputPadding.H),
            Extent(input.W, Kernel.W, Stride.W, Padding.W, OutputPadding.W), Out);

        int Extent(int size, int kernel, int stride, int padding, int extra)
        {
            Check(size > 0 && kernel > 0 && stride > 0 && padding >= 0 && extra >= 0 && extra < stride, "sizes and strides must be positive, output padding below the stride");
            long extent = (size - 1L) * stride - 2L * padding + kernel + extra;
            Check(extent is > 0 and < int.MaxValue, $"nothing is left of input {input}");
            return (int)extent;
        }
    }

    /// <inheritdoc/>
    public override long Flops(Shape input) => 2 * input.Count * Out * Kernel.H * Kernel.W;

    /// <inheritdoc/>
    public override double At(in OperatorInputs inputs, int n, int y, int x, int c)
    {
        var shape = inputs.Shape;
        double sum = 0;
        for (int i = 0; i < Kernel.H; i++)
            for (int j = 0; j < Kernel.W; j++)
            {
                // Input pixel s reaches output pixel s·stride − padding + tap: solve for s.
                if (!Source(y + Padding.H - i, Stride.H, shape.H, out int sourceY) || !Source(x + Padding.W - j, Stride.W, shape.W, out int sourceX))
                    continue;
                int pixel = ((n * shape.H + sourceY) * shape.W + sourceX) * shape.C;
                for (int k = 0; k < In; k++)
                    sum += (double)inputs.X[pixel + k] * inputs.Weight[((k * Out + c) * Kernel.H + i) * Kernel.W + j];
            }
        var output = OutputShape(shape);
        return Finish(sum, inputs, ((n * output.H + y) * output.W + x) * Out + c, c, Relu);
    }

    internal static bool Source(int position, int stride, int extent, out int source)
    {
        source = position / stride;
        return position >= 0 && position % stride == 0 && source < extent;
    }
}
