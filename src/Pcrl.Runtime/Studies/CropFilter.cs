using System.Buffers;
using System.Numerics;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pcrl.Runtime.Studies;

/// <summary>Cuts a square around the head out of slices of one size and resizes it with an antialiasing triangle filter.</summary>
internal sealed class CropFilter
{
    /// <summary>Side of the crop in sides of the intracranial box: leaves room for skull and scalp.</summary>
    private const double Margin = 1.22;

    private static readonly int Lanes = Vector512<float>.Count;
    private readonly (int First, float[] Weights)[] _columns, _rows;
    private readonly int _left, _top, _right, _bottom; // what is read of a slice

    /// <param name="slice">One of the slices.</param>
    /// <param name="box">What to cut around, in its pixels.</param>
    /// <param name="size">Side S of the result.</param>
    public CropFilter(StudySlice slice, HeadBox box, int size)
    {
        // Pixels need not be square: the crop is square in millimetres.
        double aspect = float.IsNaN(slice.PixelSpacingX) ? 1 : slice.PixelSpacingY / slice.PixelSpacingX;
        double side = Margin * Math.Max(box.Right - box.Left, (box.Bottom - box.Top) * aspect); // in columns
        double left = (box.Left + box.Right - side) / 2, top = (box.Top + box.Bottom - side / aspect) / 2;
        _columns = Taps(left, side / size, size, slice.Width);
        _rows = Taps(top, side / aspect / size, size, slice.Height);
        (_left, _right) = (_columns.Min(t => t.First), _columns.Max(t => t.First + t.Weights.Length));
        (_top, _bottom) = (_rows.Min(t => t.First), _rows.Max(t => t.First + t.Weights.Length));
    }

    /// <summary>Windows and resizes one slice.</summary>
    /// <param name="pixels">Of the slice.</param>
    /// <param name="scale">Pixel to 0..1.</param>
    /// <param name="offset">Pixel to 0..1.</param>
    /// <param name="target">[S, S], 0 (black) to 1 (white).</param>
    public void Apply(SlicePixels pixels, float scale, float offset, Span<float> target)
    {
        int size = _columns.Length, width = _right - _left;
        int stride = (size + Lanes - 1) / Lanes * Lanes, height = (_bottom - _top + Lanes - 1) / Lanes * Lanes;
        float[] narrow = ArrayPool<float>.Shared.Rent(height * stride);
        float[] lines = ArrayPool<float>.Shared.Rent(Lanes * width), turned = ArrayPool<float>.Shared.Rent(width * Lanes), sums = ArrayPool<float>.Shared.Rent(size * Lanes);
        // Columns first, only for the source rows that some output row reads: [rows read, S]. Sixteen rows at a time, turned so that their pixels lie side
        // by side: each row is summed in the order in which it would be alone.
        for (int y = _top; y < _bottom; y += Lanes)
        {
            for (int lane = 0; lane < Math.Min(Lanes, _bottom - y); lane++)
            {
                var line = lines.AsSpan(lane * width, width);
                pixels.Read(y + lane, _left, 1, line);
                Window(line, scale, offset);
            }
            Turn(lines, Lanes, width, turned, Lanes);
            for (int x = 0; x < size; x++)
            {
                var (first, weights) = _columns[x];
                Sum(turned, (first - _left) * Lanes, Lanes, weights).CopyTo(sums.AsSpan(x * Lanes));
            }
            Turn(sums, size, Lanes, narrow.AsSpan((y - _top) * stride), stride);
        }
        Span<float> row = stackalloc float[stride];
        for (int y = 0; y < size; y++)
        {
            var (first, weights) = _rows[y];
            for (int x = 0; x < stride; x += Lanes)
            {
                var sum = Sum(narrow, (first - _top) * stride + x, stride, weights);
                Vector512.Min(sum, Vector512<float>.One).CopyTo(row[x..]); // rounding of the weights' sum
            }
            row[..size].CopyTo(target[(y * size)..]);
        }
        ArrayPool<float>.Shared.Return(narrow);
        ArrayPool<float>.Shared.Return(lines);
        ArrayPool<float>.Shared.Return(turned);
        ArrayPool<float>.Shared.Return(sums);
    }

    /// <summary>Sixteen weighted sums, from <paramref name="at"/> on in steps of <paramref name="stride"/>.</summary>
    private static Vector512<float> Sum(float[] values, int at, int stride, float[] weights)
    {
        var sum = Vector512<float>.Zero;
        for (int t = 0; t < weights.Length; t++, at += stride)
            sum += Vector512.Create(values, at) * weights[t];
        return sum;
    }

    /// <summary>The pixels from 0 (black) to 1 (white), in one pass; what a fused multiplication would round otherwise must not differ between processors.</summary>
    private static void Window(Span<float> pixels, float scale, float offset)
    {
        int x = 0;
        for (; x <= pixels.Length - Vector<float>.Count; x += Vector<float>.Count)
            Vector.Min(Vector.Max(new Vector<float>(pixels[x..]) * scale + new Vector<float>(offset), Vector<float>.Zero), Vector<float>.One).CopyTo(pixels[x..]);
        for (; x < pixels.Length; x++)
            pixels[x] = Math.Min(Math.Max(pixels[x] * scale + offset, 0), 1);
    }

    /// <summary>Exchanges rows and columns: [rows, columns] → [columns, stride].</summary>
    private static unsafe void Turn(ReadOnlySpan<float> from, int rows, int columns, Span<float> to, int stride)
    {
        int wholeRows = rows / 4 * 4, wholeColumns = columns / 4 * 4;
        // The last of what the pointers below reach.
        _ = from[..(rows * columns)];
        _ = to[..((columns - 1) * stride + rows)];
        fixed (float* source = from, target = to)
        {
            for (int r = 0; r < wholeRows; r += 4)
            {
                float* s = source + r * columns, t = target + r;
                for (int c = 0; c < wholeColumns; c += 4, s += 4, t += 4 * stride)
                {
                    Vector128<float> a = Sse.LoadVector128(s), b = Sse.LoadVector128(s + columns);
                    Vector128<float> d = Sse.LoadVector128(s + 2 * columns), e = Sse.LoadVector128(s + 3 * columns);
                    Vector128<float> ab = Sse.UnpackLow(a, b), de = Sse.UnpackLow(d, e), abHigh = Sse.UnpackHigh(a, b), deHigh = Sse.UnpackHigh(d, e);
                    Sse.Store(t, Sse.MoveLowToHigh(ab, de));
                    Sse.Store(t + stride, Sse.MoveHighToLow(de, ab));
                    Sse.Store(t + 2 * stride, Sse.MoveLowToHigh(abHigh, deHigh));
                    Sse.Store(t + 3 * stride, Sse.MoveHighToLow(deHigh, abHigh));
                }
            }
        }
        for (int r = 0; r < rows; r++)
        {
            for (int c = r < wholeRows ? wholeColumns : 0; c < columns; c++)
                to[c * stride + r] = from[r * columns + c];
        }
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
