namespace Pcrl.Kernels;

/// <summary>Batch normalisation at inference time is a scale and a shift per channel: it goes into the convolution before it.</summary>
public static class BatchNorm
{
    /// <summary>Weights and bias of the convolution (or linear layer) that does both: γ·(conv(x) − mean)/√(var + ε) + β.</summary>
    /// <param name="weight">[out, …] row-major.</param>
    /// <param name="bias">[out], or empty.</param>
    /// <param name="gamma">[out].</param>
    /// <param name="beta">[out].</param>
    /// <param name="mean">[out], the running mean.</param>
    /// <param name="variance">[out], the running variance.</param>
    /// <param name="epsilon">PyTorch's default is 1e-5.</param>
    /// <exception cref="ArgumentException">The counts do not fit.</exception>
    public static (float[] Weight, float[] Bias) Fold(ReadOnlySpan<float> weight, ReadOnlySpan<float> bias, ReadOnlySpan<float> gamma,
        ReadOnlySpan<float> beta, ReadOnlySpan<float> mean, ReadOnlySpan<float> variance, double epsilon = 1e-5)
    {
        int channels = gamma.Length;
        if (channels == 0 || weight.Length % channels != 0 || beta.Length != channels || mean.Length != channels || variance.Length != channels
            || bias.Length != 0 && bias.Length != channels)
            throw new ArgumentException("the counts of a batch normalisation do not fit its convolution");
        var foldedWeight = new float[weight.Length];
        var foldedBias = new float[channels];
        int each = weight.Length / channels;
        for (int c = 0; c < channels; c++)
        {
            double scale = gamma[c] / Math.Sqrt(variance[c] + epsilon);
            for (int i = c * each; i < (c + 1) * each; i++)
                foldedWeight[i] = (float)(weight[i] * scale);
            foldedBias[c] = (float)(beta[c] + ((bias.IsEmpty ? 0 : bias[c]) - (double)mean[c]) * scale);
        }
        return (foldedWeight, foldedBias);
    }
}
