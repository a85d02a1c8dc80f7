using Pcrl.Kernels;
using Pcrl.Kernels.Convolution;

namespace Pcrl.Runtime.Vision;

/// <summary>
/// The first convolution for grey slices. Its input channels are one grey value under each channel's mean and deviation, so two channels say as much:
/// the value under the average mean and deviation, and a one for what the channels have besides. The one is a channel and not part of the bias because
/// the convolution pads with zeros after normalisation: beyond the edge it is 0.
/// </summary>
internal sealed class GreyStem(VisualConfig config)
{
    /// <summary>The value and the one.</summary>
    public const int Channels = 2;

    private readonly float _mean = config.Mean.Average(), _std = config.Std.Average();

    /// <summary>Grey in 0..1 → both channels, as an operator: so the device does it and only grey goes there.</summary>
    /// <param name="device">Where it runs.</param>
    /// <param name="grey">[N, S, S, 1].</param>
    public Layer Prepare(Device device, Shape grey) => device.Prepare(new Conv2d(1, Channels, 1), grey, [1 / _std, 0], [-_mean / _std, 1]);

    /// <summary>Weights for the normalised channels [out, channels, kernel H, kernel W] → weights for the two [out, 2, kernel H, kernel W].</summary>
    public float[] Fold(ReadOnlySpan<float> weight, int taps)
    {
        int channels = config.Mean.Count, outputs = weight.Length / (channels * taps);
        var folded = new float[outputs * Channels * taps];
        for (int o = 0; o < outputs; o++)
            for (int tap = 0; tap < taps; tap++)
            {
                double value = 0, one = 0;
                for (int c = 0; c < channels; c++)
                {
                    // (grey − mean[c]) / std[c] in terms of (grey − mean) / std
                    double w = weight[(o * channels + c) * taps + tap] / (double)config.Std[c];
                    value += w * _std;
                    one += w * (_mean - config.Mean[c]);
                }
                folded[o * Channels * taps + tap] = (float)value;
                folded[(o * Channels + 1) * taps + tap] = (float)one;
            }
        return folded;
    }
}
