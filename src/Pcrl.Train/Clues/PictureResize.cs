namespace Pcrl.Train.Clues;

/// <summary>An interpolation kernel of <see cref="PictureResize"/>.</summary>
public enum ResizeFilter
{
    /// <summary>Triangle; what Segment Anything resizes with.</summary>
    Bilinear,

    /// <summary>Cubic with a = −0.5; what CLIP and MedCLIP resize with.</summary>
    Bicubic,
}

/// <summary>
/// Resizes 8-bit pictures exactly as Pillow does (antialiased, two passes, fixed-point weights of 22 bits, rounding to 8 bits between):
/// the published models were trained behind it, and float interpolation differs by several grey levels.
/// </summary>
public static class PictureResize
{
    private const int PrecisionBits = 32 - 8 - 2;

    /// <summary>Height and width with the longest side at <paramref name="longSide"/>.</summary>
    public static (int Height, int Width) Fit(int height, int width, int longSide)
    {
        double scale = longSide * 1.0 / Math.Max(height, width);
        return ((int)(height * scale + 0.5), (int)(width * scale + 0.5));
    }

    /// <summary>[height, width, channels] → [newHeight, newWidth, channels].</summary>
    public static byte[] Resize(
        ReadOnlySpan<byte> picture, int height, int width, int channels, int newHeight, int newWidth, ResizeFilter filter = ResizeFilter.Bilinear)
    {
        if (picture.Length != height * width * channels)
            throw new ArgumentException($"{picture.Length} bytes for {height} × {width} × {channels}", nameof(picture));
        ArgumentOutOfRangeException.ThrowIfLessThan(newHeight, 1);
        ArgumentOutOfRangeException.ThrowIfLessThan(newWidth, 1);
        byte[] current = picture.ToArray();
        if (newWidth != width)
            current = Pass(current, height, width, channels, newWidth, filter);
        if (newHeight != height)
            current = PassDown(current, height, newWidth * channels, newHeight, filter);
        return current;
    }

    private static byte[] Pass(byte[] picture, int rows, int width, int channels, int newWidth, ResizeFilter filter)
    {
        var taps = Weights(width, newWidth, filter);
        var result = new byte[rows * newWidth * channels];
        for (int y = 0; y < rows; y++)
        {
            for (int x = 0; x < newWidth; x++)
            {
                var (first, weights) = taps[x];
                for (int c = 0; c < channels; c++)
                {
                    int sum = 1 << (PrecisionBits - 1), at = (y * width + first) * channels + c;
                    foreach (int weight in weights)
                    {
                        sum += picture[at] * weight;
                        at += channels;
                    }
                    result[(y * newWidth + x) * channels + c] = Clip(sum);
                }
            }
        }
        return result;
    }

    private static byte[] PassDown(byte[] picture, int height, int stride, int newHeight, ResizeFilter filter)
    {
        var taps = Weights(height, newHeight, filter);
        var result = new byte[newHeight * stride];
        var sums = new int[stride];
        for (int y = 0; y < newHeight; y++)
        {
            var (first, weights) = taps[y];
            Array.Fill(sums, 1 << (PrecisionBits - 1));
            for (int k = 0; k < weights.Length; k++)
            {
                int weight = weights[k], row = (first + k) * stride;
                for (int i = 0; i < stride; i++)
                    sums[i] += picture[row + i] * weight;
            }
            for (int i = 0; i < stride; i++)
                result[y * stride + i] = Clip(sums[i]);
        }
        return result;
    }

    private static byte Clip(int sum) => (byte)Math.Clamp(sum >> PrecisionBits, 0, 255);

    /// <summary>For every output position the first input position and its fixed-point weights.</summary>
    private static (int First, int[] Weights)[] Weights(int size, int newSize, ResizeFilter filter)
    {
        double scale = (double)size / newSize, filterScale = Math.Max(scale, 1);
        double support = (filter == ResizeFilter.Bilinear ? 1.0 : 2.0) * filterScale;
        var taps = new (int, int[])[newSize];
        for (int i = 0; i < newSize; i++)
        {
            double centre = (i + 0.5) * scale;
            int first = Math.Max(0, (int)(centre - support + 0.5));
            int end = Math.Min(size, (int)(centre + support + 0.5));
            var weights = new double[end - first];
            double sum = 0;
            for (int k = 0; k < weights.Length; k++)
                sum += weights[k] = Kernel((k + first - centre + 0.5) * (1.0 / filterScale), filter);
            taps[i] = (first, Array.ConvertAll(weights, w =>
            {
                double normal = sum == 0 ? w : w / sum;
                return (int)((normal < 0 ? -0.5 : 0.5) + normal * (1 << PrecisionBits));
            }));
        }
        return taps;
    }

    private static double Kernel(double x, ResizeFilter filter)
    {
        const double a = -0.5;
        x = Math.Abs(x);
        if (filter == ResizeFilter.Bilinear)
            return x < 1 ? 1 - x : 0;
        if (x < 1)
            return ((a + 2) * x - (a + 3)) * x * x + 1;
        return x < 2 ? (((x - 5) * x + 8) * x - 4) * a : 0;
    }
}
