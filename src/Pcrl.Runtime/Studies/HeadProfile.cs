namespace Pcrl.Runtime.Studies;

/// <summary>
/// What lies inside the skull on one slice, found by content: the connected parts of the tissue that has bone to its left, right, front
/// and back, the largest of which is brain. That needs no closed ring, so it holds at the skull base, and finds little on air or neck.
/// </summary>
/// <param name="Parts">Areas of the connected parts, in mm² where the spacing is known, else in pixels; any order.</param>
/// <param name="Largest">Area of the largest part, 0 where there is none.</param>
/// <param name="Box">Box around the largest part, in pixels of the slice; empty where there is none.</param>
internal sealed record HeadProfile(IReadOnlyList<float> Parts, float Largest, HeadBox Box)
{
    // A coarse grid is enough to find a head and keeps 160 slices of 512² cheap.
    private const int Samples = 128;

    /// <summary>Measures one slice.</summary>
    /// <param name="slice">The slice.</param>
    /// <param name="unit">Unit of its pixels.</param>
    /// <param name="skull">False for skull-stripped volumes: then all tissue counts.</param>
    public static HeadProfile Measure(StudySlice slice, PixelUnit unit, bool skull)
    {
        // Pictures in the brain window show bone as white and brain between dark CSF and bright blood.
        var (tissueFrom, tissueTo, bone) = unit == PixelUnit.Hounsfield ? (1f, 95f, 180f) : (28f, 250f, 251f);
        int step = Math.Max(1, Math.Max(slice.Width, slice.Height) / Samples);
        int columns = slice.Width / step, rows = slice.Height / step;
        var tissue = new bool[rows * columns];
        Span<int> firstBone = stackalloc int[columns], lastBone = stackalloc int[columns]; // per column, in rows
        firstBone.Fill(int.MaxValue);
        lastBone.Fill(-1);
        var rowRange = new (int First, int Last)[rows];
        for (int y = 0; y < rows; y++)
        {
            var pixels = slice.Pixels.AsSpan(y * step * slice.Width, slice.Width);
            var (first, last) = (int.MaxValue, -1);
            // Without branches: no processor foresees noise.
            var row = tissue.AsSpan(y * columns, columns);
            for (int x = 0; x < row.Length; x++)
            {
                float value = pixels[x * step];
                bool isBone = value >= bone;
                row[x] = !isBone & value >= tissueFrom & value <= tissueTo;
                first = isBone ? Math.Min(first, x) : first;
                last = isBone ? x : last;
                firstBone[x] = isBone ? Math.Min(firstBone[x], y) : firstBone[x];
                lastBone[x] = isBone ? y : lastBone[x];
            }
            rowRange[y] = (first, last);
        }

        if (skull)
        {
            for (int y = 0; y < rows; y++)
            {
                var row = tissue.AsSpan(y * columns, columns);
                var (first, last) = rowRange[y];
                for (int x = 0; x < row.Length; x++)
                    row[x] &= first < x & x < last & firstBone[x] < y & y < lastBone[x];
            }
        }
        float sampleArea = step * step * (float.IsNaN(slice.PixelSpacingX) ? 1 : slice.PixelSpacingX * slice.PixelSpacingY);
        var parts = new List<float>();
        var (largest, box) = (0, default(HeadBox));
        foreach (var (count, partBox) in Components(tissue, columns))
        {
            parts.Add(count * sampleArea);
            if (count > largest)
                (largest, box) = (count, new HeadBox(partBox.Left * step, partBox.Top * step, partBox.Right * step, partBox.Bottom * step));
        }
        return new HeadProfile(parts, largest * sampleArea, box);
    }

    /// <summary>Area of all parts of at least a given area: lobes that bone divides at the skull base, but not crumbs of face.</summary>
    public float Area(float smallest) => Parts.Where(p => p >= smallest).Sum();

    /// <summary>Pixels and box of each 4-connected part; clears the mask.</summary>
    private static IEnumerable<(int Count, HeadBox Box)> Components(bool[] mask, int columns)
    {
        var stack = new Stack<int>();
        for (int start = 0; start < mask.Length; start++)
        {
            if (!mask[start])
                continue;
            int count = 0;
            var box = new HeadBox(int.MaxValue, int.MaxValue, 0, 0);
            Visit(start, true);
            while (stack.TryPop(out int at))
            {
                int x = at % columns, y = at / columns;
                count++;
                box = new HeadBox(Math.Min(box.Left, x), Math.Min(box.Top, y), Math.Max(box.Right, x + 1), Math.Max(box.Bottom, y + 1));
                Visit(at - 1, x > 0);
                Visit(at + 1, x + 1 < columns);
                Visit(at - columns, y > 0);
                Visit(at + columns, at + columns < mask.Length);
            }
            yield return (count, box);
        }

        void Visit(int at, bool inside)
        {
            if (!inside || !mask[at])
                return;
            mask[at] = false;
            stack.Push(at);
        }
    }

    /// <summary>Measures all slices; falls back to all tissue where no slice shows a skull.</summary>
    public static HeadProfile[] MeasureAll(Study study)
    {
        HeadProfile[] Measured(bool skull) => [.. study.Slices.Select(slice => Measure(slice, study.Unit, skull))];
        var profiles = Measured(skull: true);
        float largest = profiles.Max(p => p.Largest);
        var slice = study.Slices[0];
        float sliceArea = slice.Width * slice.Height * (float.IsNaN(slice.PixelSpacingX) ? 1 : slice.PixelSpacingX * slice.PixelSpacingY);
        // The inside of a skull fills at least a twentieth of any picture that shows a whole head.
        return largest > sliceArea / 20 ? profiles : Measured(skull: false);
    }
}
