namespace Pcrl.Runtime.Studies;

/// <summary>
/// What lies inside the skull on one slice, found by content: tissue pixels with bone to their left, right, front and back. That needs
/// no closed ring, so it holds at the skull base, and finds nothing on slices of air or neck.
/// </summary>
/// <param name="Area">Area inside the skull; mm² where the spacing is known, else pixels.</param>
/// <param name="Left">Leftmost column of it, in pixels of the slice; meaningless where <paramref name="Area"/> is 0.</param>
/// <param name="Top">First row.</param>
/// <param name="Right">Column behind the rightmost.</param>
/// <param name="Bottom">Row behind the last.</param>
internal readonly record struct HeadProfile(float Area, int Left, int Top, int Right, int Bottom)
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
            for (int x = 0; x < columns; x++)
            {
                float value = pixels[x * step];
                if (value >= bone)
                {
                    (first, last) = (Math.Min(first, x), x);
                    (firstBone[x], lastBone[x]) = (Math.Min(firstBone[x], y), y);
                }
                else
                    tissue[y * columns + x] = value >= tissueFrom && value <= tissueTo;
            }
            rowRange[y] = (first, last);
        }

        int count = 0, left = columns, right = 0, top = rows, bottom = 0;
        for (int y = 0; y < rows; y++)
        {
            for (int x = 0; x < columns; x++)
            {
                if (!tissue[y * columns + x])
                    continue;
                if (skull && !(rowRange[y].First < x && x < rowRange[y].Last && firstBone[x] < y && y < lastBone[x]))
                    continue;
                count++;
                (left, right, top, bottom) = (Math.Min(left, x), Math.Max(right, x + 1), Math.Min(top, y), Math.Max(bottom, y + 1));
            }
        }
        float pixelArea = float.IsNaN(slice.PixelSpacingX) ? 1 : slice.PixelSpacingX * slice.PixelSpacingY;
        return new HeadProfile(count * step * step * pixelArea, left * step, top * step, right * step, bottom * step);
    }

    /// <summary>Measures all slices; falls back to all tissue where no slice shows a skull.</summary>
    public static HeadProfile[] MeasureAll(Study study)
    {
        var profiles = Array.ConvertAll(study.Slices.ToArray(), s => Measure(s, study.Unit, skull: true));
        float largest = profiles.Max(p => p.Area);
        var slice = study.Slices[0];
        float sliceArea = slice.Width * slice.Height * (float.IsNaN(slice.PixelSpacingX) ? 1 : slice.PixelSpacingX * slice.PixelSpacingY);
        // The inside of a skull fills at least a twentieth of any picture that shows a whole head.
        return largest > sliceArea / 20 ? profiles : Array.ConvertAll(study.Slices.ToArray(), s => Measure(s, study.Unit, skull: false));
    }
}
