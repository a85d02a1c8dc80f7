using System.Buffers;
using System.Numerics;
using System.Numerics.Tensors;

namespace Pcrl.Runtime.Studies;

/// <summary>Turns chosen slices into the network's input. Training and runtime share this code, so they cannot drift apart.</summary>
public static class SliceImages
{
    /// <summary>Side of the crop in sides of the intracranial box: leaves room for skull and scalp.</summary>
    private const double Margin = 1.22;

    private const int ParallelFrom = 1 << 21; // pixels read and made

    /// <summary>
    /// Windows, crops a square around the head (the same for all slices, so that the head has the same scale in every study) and
    /// resizes with an antialiasing triangle filter.
    /// </summary>
    /// <param name="study">The study.</param>
    /// <param name="selection">The choice of <see cref="SliceSelector"/> for this study.</param>
    /// <param name="imageSize">Side S of the output.</param>
    /// <param name="window">Window for Hounsfield input.</param>
    /// <returns>[24, S, S], 0 (black) to 1 (white).</returns>
    /// <exception cref="InputException">The window cannot be applied to this study.</exception>
    public static float[] Prepare(Study study, SliceSelection selection, int imageSize, WindowChoice window)
    {
        var (scale, offset) = window.Resolve(study);
        var images = new float[selection.Slices.Count * imageSize * imageSize];
        int plane = imageSize * imageSize;
        void One(int i) => Render(study.Slices[selection.Slices[i].Slice], selection.HeadBox, scale, offset, imageSize, images.AsSpan(i * plane, plane));
        // Training prepares small slices on its own threads: there more threads cost more than they bring.
        if (images.Length + selection.Slices.Sum(s => study.Slices[s.Slice].Pixels.Length) >= ParallelFrom)
            Parallel.For(0, selection.Slices.Count, One);
        else
        {
            for (int i = 0; i < selection.Slices.Count; i++)
                One(i);
        }
        return images;
    }

    private static void Render(StudySlice slice, HeadBox box, float scale, float offset, int size, Span<float> target)
    {
        // Pixels need not be square: the crop is square in millimetres.
        double aspect = float.IsNaN(slice.PixelSpacingX) ? 1 : slice.PixelSpacingY / slice.PixelSpacingX;
        double side = Margin * Math.Max(box.Right - box.Left, (box.Bottom - box.Top) * aspect); // in columns
        double left = (box.Left + box.Right - side) / 2, top = (box.Top + box.Bottom - side / aspect) / 2;
        var columns = Taps(left, side / size, size, slice.Width);
        var rows = Taps(top, side / aspect / size, size, slice.Height);

        // Columns first, only for the source rows that some output row reads: [rows read, S].
        int firstRow = rows.Min(t => t.First), lastRow = rows.Max(t => t.First + t.Weights.Length);
        float[] narrow = ArrayPool<float>.Shared.Rent(Math.Max(1, (lastRow - firstRow) * size)), line = ArrayPool<float>.Shared.Rent(slice.Width);
        for (int y = firstRow; y < lastRow; y++)
        {
            var windowed = line.AsSpan(0, slice.Width);
            Window(slice.Pixels.AsSpan(y * slice.Width, slice.Width), scale, offset, windowed);
            var output = narrow.AsSpan((y - firstRow) * size, size);
            for (int x = 0; x < size; x++)
            {
                var (first, weights) = columns[x];
                float sum = 0;
                for (int t = 0; t < weights.Length; t++)
                    sum += line[first + t] * weights[t];
                output[x] = sum;
            }
        }
        target.Clear();
        for (int y = 0; y < size; y++)
        {
            var output = target.Slice(y * size, size);
            var (first, weights) = rows[y];
            for (int t = 0; t < weights.Length; t++)
                TensorPrimitives.MultiplyAdd(narrow.AsSpan((first + t - firstRow) * size, size), weights[t], output, output);
            TensorPrimitives.Min(output, 1, output); // rounding of the weights' sum
        }
        ArrayPool<float>.Shared.Return(narrow);
        ArrayPool<float>.Shared.Return(line);
    }

    /// <summary>The pixels from 0 (black) to 1 (white), in one pass; what a fused multiplication would round otherwise must not differ between processors.</summary>
    private static void Window(ReadOnlySpan<float> pixels, float scale, float offset, Span<float> windowed)
    {
        int x = 0;
        for (; x <= pixels.Length - Vector<float>.Count; x += Vector<float>.Count)
            Vector.Min(Vector.Max(new Vector<float>(pixels[x..]) * scale + new Vector<float>(offset), Vector<float>.Zero), Vector<float>.One).CopyTo(windowed[x..]);
        for (; x < pixels.Length; x++)
            windowed[x] = Math.Min(Math.Max(pixels[x] * scale + offset, 0), 1);
    }

    /// <summary>
    /// Source pixels and weights of each output pixel along one axis. The triangle is as wide as the scale asks when shrinking; what
    /// lies outside the picture is black, so weights need not sum to 1 there.
    /// </summary>
    private static (int First, float[] Weights)[] Taps(double start, double pixelsPerStep, int size, int length)
    {
        var taps = new (int, float[])[size];
        double support = Math.Max(1, pixelsPerStep);
        for (int i = 0; i < size; i++)
        {
            double centre = start + (i + 0.5) * pixelsPerStep;
            int from = (int)Math.Floor(centre - support), to = (int)Math.Ceiling(centre + support);
            double total = 0;
            for (int p = from; p < to; p++)
                total += Math.Max(0, 1 - Math.Abs(p + 0.5 - centre) / support);
            int first = Math.Clamp(from, 0, length), last = Math.Clamp(to, first, length);
            var weights = new float[last - first];
            for (int p = first; p < last; p++)
                weights[p - first] = (float)(Math.Max(0, 1 - Math.Abs(p + 0.5 - centre) / support) / total);
            taps[i] = (first, weights);
        }
        return taps;
    }
}
