namespace Pcrl.Train.Clues;

/// <summary>A box in pixels; the far edges are inclusive maxima, as Segment Anything counts.</summary>
public readonly record struct MaskBox(int Left, int Top, int Right, int Bottom);

/// <summary>Boxes, overlaps and clean-up of masks, as Segment Anything's automatic generator defines them.</summary>
public static class MaskGeometry
{
    /// <summary>The box around a row-major mask; 0, 0, 0, 0 for an empty one.</summary>
    public static MaskBox Box(ReadOnlySpan<bool> mask, int height, int width)
    {
        int left = width, top = height, right = -1, bottom = -1;
        for (int y = 0; y < height; y++)
        {
            var row = mask.Slice(y * width, width);
            int first = row.IndexOf(true);
            if (first < 0)
                continue;
            left = Math.Min(left, first);
            right = Math.Max(right, row.LastIndexOf(true));
            top = Math.Min(top, y);
            bottom = y;
        }
        return right < 0 ? default : new MaskBox(left, top, right, bottom);
    }

    /// <summary>Intersection over union of two (x0, y0, x1, y1) boxes in float32; NaN where both are empty.</summary>
    public static float BoxIou(ReadOnlySpan<float> a, ReadOnlySpan<float> b)
    {
        float width = MathF.Max(0, MathF.Min(a[2], b[2]) - MathF.Max(a[0], b[0]));
        float height = MathF.Max(0, MathF.Min(a[3], b[3]) - MathF.Max(a[1], b[1]));
        float intersection = width * height;
        return intersection / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - intersection);
    }

    /// <summary>Greedy non-maximum suppression.</summary>
    /// <param name="boxes">[N, 4] as (x0, y0, x1, y1).</param>
    /// <param name="scores">[N].</param>
    /// <param name="threshold">A box that overlaps a better one by more than this goes.</param>
    /// <returns>Kept indices by falling score; equal scores keep their order.</returns>
    public static int[] Suppress(float[] boxes, float[] scores, double threshold)
    {
        int[] order = [.. Enumerable.Range(0, scores.Length).OrderByDescending(i => scores[i])];
        var gone = new bool[scores.Length];
        var kept = new List<int>();
        for (int i = 0; i < order.Length; i++)
        {
            if (gone[order[i]])
                continue;
            kept.Add(order[i]);
            for (int j = i + 1; j < order.Length; j++)
            {
                if (BoxIou(boxes.AsSpan(order[i] * 4, 4), boxes.AsSpan(order[j] * 4, 4)) > threshold)
                    gone[order[j]] = true;
            }
        }
        return [.. kept];
    }

    /// <summary>Fills holes smaller than <paramref name="area"/>, or removes such islands (the largest stays).</summary>
    /// <returns>The cleaned mask, and whether it differs.</returns>
    public static (bool[] Mask, bool Changed) RemoveSmallRegions(bool[] mask, int height, int width, double area, bool holes)
    {
        var (labels, sizes) = Components(mask, height, width, value: !holes);
        if (sizes.TrueForAll(size => size >= area))
            return (mask, false);
        bool largestStays = !holes && sizes.TrueForAll(size => size < area);
        int largest = sizes.IndexOf(sizes.Max());
        var cleaned = new bool[mask.Length];
        for (int i = 0; i < mask.Length; i++)
        {
            bool inRegion = labels[i] >= 0;
            bool small = inRegion && sizes[labels[i]] < area;
            cleaned[i] = holes ? !inRegion || small : inRegion && (!small || (largestStays && labels[i] == largest));
        }
        return (cleaned, true);
    }

    /// <summary>8-connected regions of <paramref name="value"/>: their number for every pixel (−1 elsewhere), and their sizes.</summary>
    public static (int[] Labels, List<int> Sizes) Components(ReadOnlySpan<bool> mask, int height, int width, bool value)
    {
        var labels = new int[mask.Length];
        Array.Fill(labels, -1);
        var sizes = new List<int>();
        var pending = new Stack<int>();
        for (int start = 0; start < mask.Length; start++)
        {
            if (mask[start] != value || labels[start] >= 0)
                continue;
            int size = 0;
            labels[start] = sizes.Count;
            pending.Push(start);
            while (pending.TryPop(out int at))
            {
                size++;
                int x = at % width, y = at / width;
                for (int ny = Math.Max(0, y - 1); ny <= Math.Min(height - 1, y + 1); ny++)
                {
                    for (int nx = Math.Max(0, x - 1); nx <= Math.Min(width - 1, x + 1); nx++)
                    {
                        int next = ny * width + nx;
                        if (mask[next] == value && labels[next] < 0)
                        {
                            labels[next] = sizes.Count;
                            pending.Push(next);
                        }
                    }
                }
            }
            sizes.Add(size);
        }
        return (labels, sizes);
    }

    /// <summary>Shared pixels as a share of all; 0 of two empty masks.</summary>
    public static double Iou(bool[] a, bool[] b)
    {
        int both = 0, either = 0;
        for (int i = 0; i < a.Length; i++)
        {
            both += a[i] & b[i] ? 1 : 0;
            either += a[i] | b[i] ? 1 : 0;
        }
        return either == 0 ? 0 : (double)both / either;
    }
}
