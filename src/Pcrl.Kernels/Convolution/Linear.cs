namespace Pcrl.Kernels.Convolution;

/// <summary>Fully connected layer with bias, residual and ReLU on a matrix [rows, in]: y = relu(x·wᵀ + b + r). Weights are [out, in].</summary>
/// <param name="In">Columns of the input.</param>
/// <param name="Out">Columns of the output.</param>
public sealed record Linear(int In, int Out) : Operator
{
    /// <summary>Negative results become zero.</summary>
    public bool Relu { get; init; }

    /// <inheritdoc/>
    public override long WeightCount => (long)Out * In;

    /// <inheritdoc/>
    public override int BiasCount => Out;

    /// <inheritdoc/>
    public override bool TakesResidual => true;

    /// <summary>The same as a 1×1 convolution, which the fast paths run: the weights lie in memory alike.</summary>
    internal Conv2d AsConvolution => new(In, Out, 1) { Relu = Relu };

    /// <inheritdoc/>
    public override Shape OutputShape(Shape input)
    {
        Check(In > 0 && Out > 0 && input == Shape.Matrix(input.N, In) && input.N > 0, $"input is {input}");
        return Shape.Matrix(input.N, Out);
    }

    /// <inheritdoc/>
    public override long Flops(Shape input) => 2L * input.N * In * Out;

    /// <inheritdoc/>
    public override double At(in OperatorInputs inputs, int n, int y, int x, int c)
    {
        double sum = 0;
        for (int k = 0; k < In; k++)
            sum += (double)inputs.X[n * In + k] * inputs.Weight[c * In + k];
        return Finish(sum, inputs, n * Out + c, c, Relu);
    }
}
