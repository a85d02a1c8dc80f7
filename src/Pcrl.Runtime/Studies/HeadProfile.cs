using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

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

    // Whether pictures stand head down is asked before slices are chosen.
    private static readonly ConditionalWeakTable<IReadOnlyList<StudySlice>, HeadProfile[]> Measured = [];

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
        // What is no number is neither tissue nor bone: so are the columns that fill up the last word.
        Span<float> row = stackalloc float[(columns + 63) / 64 * 64];
        row[columns..].Fill(float.NaN);
        var (tissue, bones) = (new BitMask(columns, rows), new BitMask(columns, rows));
        for (int y = 0; y < rows; y++)
        {
            slice.Pixels.Read(y * step, 0, step, row[..columns]);
            Span<ulong> tissueWords = tissue.Row(y), boneWords = bones.Row(y);
            for (int x = 0; x < row.Length; x += Vector512<float>.Count)
            {
                var values = Vector512.Create<float>(row[x..]);
                var isTissue = Vector512.GreaterThanOrEqual(values, Vector512.Create(tissueFrom)) & Vector512.LessThanOrEqual(values, Vector512.Create(tissueTo));
                tissueWords[x / 64] |= isTissue.ExtractMostSignificantBits() << x;
                boneWords[x / 64] |= Vector512.GreaterThanOrEqual(values, Vector512.Create(bone)).ExtractMostSignificantBits() << x;
            }
        }
        if (skull)
            KeepWithin(bones, tissue);
        float sampleArea = step * step * (float.IsNaN(slice.PixelSpacingX) ? 1 : slice.PixelSpacingX * slice.PixelSpacingY);
        var parts = new List<float>();
        var (largest, box) = (0, default(HeadBox));
        foreach (var (count, partBox) in tissue.Parts())
        {
            parts.Add(count * sampleArea);
            if (count > largest)
                (largest, box) = (count, new HeadBox(partBox.Left * step, partBox.Top * step, partBox.Right * step, partBox.Bottom * step));
        }
        return new HeadProfile(parts, largest * sampleArea, box);
    }

    /// <summary>Area of all parts of at least a given area: lobes that bone divides at the skull base, but not crumbs of face.</summary>
    public float Area(float smallest) => Parts.Where(p => p >= smallest).Sum();

    /// <summary>Clears the tissue that has no bone to its left, right, front or back.</summary>
    private static void KeepWithin(BitMask bones, BitMask tissue)
    {
        int words = bones.Words;
        Span<ulong> front = stackalloc ulong[words], back = stackalloc ulong[words];
        for (int y = 0; y < bones.Rows; y++)
        {
            Span<ulong> kept = tissue.Row(y), bone = bones.Row(y);
            ulong left = 0, right = 0;
            for (int w = 0, last = words - 1; w < words; w++, last--)
            {
                kept[w] &= front[w] & (left | (0 - ((bone[w] & (0 - bone[w])) << 1))); // above the lowest bone
                front[w] |= bone[w];
                left |= bone[w] == 0 ? 0 : ulong.MaxValue;
                kept[last] &= right | (bone[last] == 0 ? 0 : ulong.MaxValue >> BitOperations.LeadingZeroCount(bone[last]) >> 1); // below the highest
                right |= bone[last] == 0 ? 0 : ulong.MaxValue;
            }
        }
        for (int y = bones.Rows - 1; y >= 0; y--)
        {
            Span<ulong> kept = tissue.Row(y), bone = bones.Row(y);
            for (int w = 0; w < words; w++)
            {
                kept[w] &= back[w];
                back[w] |= bone[w];
            }
        }
    }

    /// <summary>Of each slice of a study, measured once; all tissue counts where no slice shows a skull.</summary>
    public static HeadProfile[] OfEach(Study study) => Measured.GetValue(study.Slices, _ => MeasureAll(study));

    private static HeadProfile[] MeasureAll(Study study)
    {
        HeadProfile[] Each(bool skull) => [.. study.Slices.Select(slice => Measure(slice, study.Unit, skull))];
        var profiles = Each(skull: true);
        float largest = profiles.Max(p => p.Largest);
        var slice = study.Slices[0];
        float sliceArea = slice.Width * slice.Height * (float.IsNaN(slice.PixelSpacingX) ? 1 : slice.PixelSpacingX * slice.PixelSpacingY);
        // The inside of a skull fills at least a twentieth of any picture that shows a whole head.
        return largest > sliceArea / 20 ? profiles : Each(skull: false);
    }
}
