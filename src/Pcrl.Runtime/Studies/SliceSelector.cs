namespace Pcrl.Runtime.Studies;

/// <summary>One of the 24 slices that the method looks at (reference §1).</summary>
/// <param name="Index">0 to 23: 3 · layer + place in the layer.</param>
/// <param name="Slice">Index into <see cref="Study.Slices"/>.</param>
/// <param name="Source">File or volume slice.</param>
/// <param name="Layer">0 (skull base) to 7 (vertex).</param>
/// <param name="Level">Chinese name of the layer.</param>
/// <param name="Reason">Why this slice stands here, in one clause.</param>
public sealed record SelectedSlice(int Index, int Slice, string Source, int Layer, string Level, string Reason);

/// <summary>The choice of 24 slices.</summary>
/// <param name="Slices">24 entries, caudal to cranial; a slice may stand in several where the series has fewer than 24.</param>
/// <param name="HeadBox">Bounding box of the inside of the skull over the upper layers, in pixels of the slices.</param>
public sealed record SliceSelection(IReadOnlyList<SelectedSlice> Slices, HeadBox HeadBox);

/// <summary>A box in pixels: columns [Left, Right), rows [Top, Bottom).</summary>
public readonly record struct HeadBox(int Left, int Top, int Right, int Bottom);

/// <summary>
/// Chooses 8 layers × 3 slices that cover the brain from skull base to vertex: the range is found by content, then cut into 24 equal
/// steps in millimetres where positions are known, else in slices.
/// </summary>
public static class SliceSelector
{
    /// <summary>Anatomical layers.</summary>
    public const int Layers = 8;

    /// <summary>Slices of one layer.</summary>
    public const int SlicesPerLayer = 3;

    /// <summary>Slices in all: 24.</summary>
    public const int Count = Layers * SlicesPerLayer;

    /// <summary>
    /// From the orbitomeatal line to the vertex; a scan that reaches further down shows neck or the foramen magnum there.
    /// 24 slices of 5 mm, the standard protocol of head CT.
    /// </summary>
    private const float BrainHeightMm = 122;

    // Shares of the largest intracranial area. The vertex tapers off; the skull base ends where the posterior fossa closes.
    private const float VertexShare = 0.10f, SkullBaseShare = 0.30f, SmallestPart = 0.06f;

    /// <summary>Chooses.</summary>
    /// <exception cref="InputException">No head is found on the slices.</exception>
    public static SliceSelection Select(Study study)
    {
        var profiles = HeadProfile.MeasureAll(study);
        var (lowest, highest) = BrainRange(study, profiles);
        double[] positions = Positions(study);
        double step = highest > lowest ? (positions[highest] - positions[lowest]) / (highest - lowest) : 1;
        double bottom = positions[lowest] - step / 2, height = positions[highest] + step / 2 - bottom; // slices have thickness
        bool millimetres = !double.IsNaN(study.Slices[0].Position);

        var chosen = new SelectedSlice[Count];
        int previous = -1;
        for (int index = 0; index < Count; index++)
        {
            double target = bottom + (index + 0.5) / Count * height;
            int nearest = lowest;
            for (int i = lowest; i <= highest; i++)
            {
                if (Math.Abs(positions[i] - target) < Math.Abs(positions[nearest] - target) - 1e-9)
                    nearest = i;
            }
            int layer = index / SlicesPerLayer;
            string where = millimetres
                ? FormattableString.Invariant($"{target - bottom:0} of {height:0} mm above the lowest brain slice")
                : FormattableString.Invariant($"step {index + 1} of {Count} over slices {lowest + 1} to {highest + 1}");
            if (nearest == previous)
                where += ", repeated: the series has fewer slices than steps here";
            chosen[index] = new SelectedSlice(index, nearest, study.Slices[nearest].Source, layer, Anatomy.Levels[layer], where);
            previous = nearest;
        }
        return new SliceSelection(chosen, Box(profiles, chosen));
    }

    /// <summary>First and last slice of the brain.</summary>
    private static (int Lowest, int Highest) BrainRange(Study study, HeadProfile[] profiles)
    {
        float largest = profiles.Max(p => p.Largest);
        if (largest <= 0)
            throw new InputException(study.Slices[0].Source, "no slice of this study shows a head");
        int widest = Array.FindIndex(profiles, p => p.Largest == largest);
        int highest = widest, lowest = widest;
        while (highest + 1 < profiles.Length && profiles[highest + 1].Area(SmallestPart * largest) >= VertexShare * largest)
            highest++;
        while (lowest > 0 && profiles[lowest - 1].Area(SmallestPart * largest) >= SkullBaseShare * largest)
            lowest--;
        // Where millimetres are known, a scan that goes on below the skull base is cut at the height of a brain.
        while (lowest < widest && study.Slices[highest].Position - study.Slices[lowest].Position > BrainHeightMm)
            lowest++;
        return (lowest, highest);
    }

    private static double[] Positions(Study study)
    {
        bool known = study.Slices.All(s => !float.IsNaN(s.Position));
        return [.. study.Slices.Select((s, i) => known ? s.Position : i)];
    }

    /// <summary>Union over the layers above the skull base: there the head is brain, below it is also face.</summary>
    private static HeadBox Box(HeadProfile[] profiles, SelectedSlice[] chosen)
    {
        var upper = chosen.Where(c => c.Layer >= 2).Select(c => profiles[c.Slice]).Where(p => p.Largest > 0).Select(p => p.Box).ToArray();
        return new HeadBox(upper.Min(b => b.Left), upper.Min(b => b.Top), upper.Max(b => b.Right), upper.Max(b => b.Bottom));
    }
}
