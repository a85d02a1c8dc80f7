namespace Pcrl.Kernels;

/// <summary>What one evaluation of an operator reads. Spans are row-major; an empty bias or residual counts as zero.</summary>
public readonly ref struct OperatorInputs
{
    /// <summary>Shape of <see cref="X"/>.</summary>
    public required Shape Shape { get; init; }

    /// <summary>Input activations [N, H, W, C].</summary>
    public required ReadOnlySpan<float> X { get; init; }

    /// <summary>Weights in PyTorch's order.</summary>
    public ReadOnlySpan<float> Weight { get; init; }

    /// <summary>One value per output channel.</summary>
    public ReadOnlySpan<float> Bias { get; init; }

    /// <summary>Added before the ReLU; shaped like the output.</summary>
    public ReadOnlySpan<float> Residual { get; init; }
}

/// <summary>
/// An operator: what it computes, from which shapes, told by a formula for a single output element. That formula is the truth that every
/// fast path is held to; <see cref="Device.Prepare"/> turns an operator into something fast.
/// </summary>
public abstract record Operator
{
    /// <summary>Number of weights, 0 for operators without.</summary>
    public virtual long WeightCount => 0;

    /// <summary>Number of biases, 0 for operators without.</summary>
    public virtual int BiasCount => 0;

    /// <summary>Whether a residual may be added.</summary>
    public virtual bool TakesResidual => false;

    /// <summary>Shape of the output for an input shape.</summary>
    /// <exception cref="ArgumentException">The input does not fit the operator.</exception>
    public abstract Shape OutputShape(Shape input);

    /// <summary>Floating-point operations of the plain algorithm (a multiply-add counts two) for an input shape.</summary>
    public abstract long Flops(Shape input);

    /// <summary>Output element [n, y, x, c], accumulated in double precision.</summary>
    public abstract double At(in OperatorInputs inputs, int n, int y, int x, int c);

    /// <summary>The whole output by the naive reference.</summary>
    /// <exception cref="ArgumentException">A shape does not fit.</exception>
    public float[] Reference(in OperatorInputs inputs)
    {
        var shape = OutputShape(inputs.Shape);
        Check(inputs.X.Length == inputs.Shape.Count, $"input has {inputs.X.Length} elements, its shape {inputs.Shape} says {inputs.Shape.Count}");
        CheckWeights(inputs.Weight.Length, inputs.Bias.Length);
        Check(inputs.Residual.IsEmpty || inputs.Residual.Length == shape.Count, "the residual is not shaped like the output");
        var result = new float[shape.Count];
        int i = 0;
        for (int n = 0; n < shape.N; n++)
            for (int y = 0; y < shape.H; y++)
                for (int x = 0; x < shape.W; x++)
                    for (int c = 0; c < shape.C; c++)
                        result[i++] = (float)At(inputs, n, y, x, c);
        return result;
    }

    /// <summary>Throws unless weights and bias have the counts this operator needs; the bias may be absent.</summary>
    internal void CheckWeights(long weights, long biases)
    {
        Check(weights == WeightCount, $"{weights} weights given, {WeightCount} needed");
        Check(biases == 0 || biases == BiasCount, $"{biases} biases given, {BiasCount} needed");
    }

    /// <summary>Throws an <see cref="ArgumentException"/> naming the operator unless <paramref name="holds"/>.</summary>
    protected internal void Check(bool holds, string problem)
    {
        if (!holds)
            throw new ArgumentException($"{this}: {problem}");
    }

    /// <summary>Bias, residual and ReLU on a double sum; a NaN stays a NaN.</summary>
    private protected static double Finish(double sum, in OperatorInputs inputs, int outputIndex, int channel, bool relu)
    {
        if (!inputs.Bias.IsEmpty)
            sum += inputs.Bias[channel];
        if (!inputs.Residual.IsEmpty)
            sum += inputs.Residual[outputIndex];
        return relu && sum < 0 ? 0 : sum;
    }
}
