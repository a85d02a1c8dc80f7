namespace Pcrl.Kernels.Convolution;

/// <summary>
/// Two-dimensional cross-correlation as in PyTorch, with bias, residual and ReLU in one go: y = relu(conv(x, w) + b + r).
/// Weights are [out, in / groups, kernel H, kernel W].
/// </summary>
/// <param name="In">Input channels.</param>
/// <param name="Out">Output channels.</param>
/// <param name="Kernel">Kernel size.</param>
public sealed record Conv2d(int In, int Out, Size Kernel) : Operator
{
    /// <summary>Step of the kernel in input pixels.</summary>
    public Size Stride { get; init; } = 1;

    /// <summary>Zeros around the input, on each side.</summary>
    public Size Padding { get; init; } = 0;

    /// <summary>Distance of the kernel's taps in input pixels.</summary>
    public Size Dilation { get; init; } = 1;

    /// <summary>Output group g sees only input group g.</summary>
    public int Groups { get; init; } = 1;

    /// <summary>Negative results become zero.</summary>
    public bool Relu { get; init; }

    /// <inheritdoc/>
    public override long WeightCount => (long)Out * (In / Groups) * Kernel.H * Kernel.W;

    /// <inheritdoc/>
    public override int BiasCount => Out;

    /// <inheritdoc/>
    public override bool TakesResidual => true;

    /// <inheritdoc/>
    public override Shape OutputShape(Shape input)
    {
        Check(In > 0 && Out > 0 && Groups > 0 && In % Groups == 0 && Out % Groups == 0, "channels do not divide into groups");
        Check(input.C == In && input.N > 0, $"input is {input}");
        return new(input.N, Extent(input.H, Kernel.H, Stride.H, Padding.H, Dilation.H), Extent(input.W, Kernel.W, Stride.W, Padding.W, Dilation.W), Out);

        int Extent(int size, int kernel, int stride, int padding, int dilation)
        {
            Check(size > 0 && kernel > 0 && stride > 0 && padding >= 0 && dilation > 0, "sizes, strides and dilations must be positive");
            long room = size + 2L * padding - (long)dilation * (kernel - 1) - 1;
            Check(room is >= 0 and < int.MaxValue, $"the kernel is larger than the padded input {input}");
            return (int)(room / stride) + 1;
        }
    }

    /// <inheritdoc/>
    public override long Flops(Shape input) => 2 * OutputShape(input).Count * (In / Groups) * Kernel.H * Kernel.W;

    /// <inheritdoc/>
    public override double At(in OperatorInputs inputs, int n, int y, int x, int c)
    {
        var shape = inputs.Shape;
        int depth = In / Groups, firstChannel = c / (Out / Groups) * depth;
        double sum = 0;
        for (int i = 0; i < Kernel.H; i++)
            for (int j = 0; j < Kernel.W; j++)
            {
                int sourceY = y * Stride.H - Padding.H + i * Dilation.H, sourceX = x * Stride.W - Padding.W + j * Dilation.W;
                if ((uint)sourceY >= (uint)shape.H || (uint)sourceX >= (uint)shape.W)
                    continue;
                int pixel = ((n * shape.H + sourceY) * shape.W + sourceX) * shape.C + firstChannel;
                for (int k = 0; k < depth; k++)
                    sum += (double)inputs.X[pixel + k] * inputs.Weight[((c * depth + k) * Kernel.H + i) * Kernel.W + j];
            }
        var output = OutputShape(shape);
        return Finish(sum, inputs, ((n * output.H + y) * output.W + x) * Out + c, c, Relu);
    }
}
