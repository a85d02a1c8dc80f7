namespace Pcrl.Runtime.Studies;

/// <summary>One of the 24 slices that the method looks at.</summary>
/// <param name="Index">0 to 23: 3 · layer + place in the layer.</param>
/// <param name="Slice">Index into <see cref="Study.Slices"/>.</param>
/// <param name="Source">File or volume slice.</param>
/// <param name="Layer">0 (skull base) to 7 (vertex).</param>
/// <param name="Level">Chinese name of the layer.</param>
/// <param name="Reason">Why this slice stands here, in one clause.</param>
public sealed record SelectedSlice(int Index, int Slice, string Source, int Layer, string Level, string Reason);

/// <summary>The choice of 24 slices.</summary>
/// <param name="Slices">24 entries, caudal to cranial; a slice stands in several only where the brain covers fewer than 24.</param>
/// <param name="HeadBox">Bounding box of the inside of the skull over the upper layers, in pixels of the slices.</param>
public sealed record SliceSelection(IReadOnlyList<SelectedSlice> Slices, HeadBox HeadBox);

/// <summary>A box in pixels: columns [Left, Right), rows [Top, Bottom).</summary>
public readonly record struct HeadBox(int Left, int Top, int Right, int Bottom);

/// <summary>
/// Chooses 8 layers × 3 slices that cover the brain from skull base to vertex: the range is found by content, then cut into 24 equal
/// steps in millimetres where positions are known, else in slices, and each step gets a slice (<see cref="Assign"/>).
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
        var profiles = HeadProfile.OfEach(study);
        var (lowest, highest) = BrainRange(study, profiles);
        double[] positions = Positions(study);
        double range = positions[highest] - positions[lowest];
        double step = range > 0 ? range / (highest - lowest) : 1; // slices closer than a float tells apart lie in one place
        double bottom = positions[lowest] - step / 2, height = positions[highest] + step / 2 - bottom; // slices have thickness
        bool millimetres = !double.IsNaN(study.Slices[0].Position);

        int[] slices = Assign([.. positions[lowest..(highest + 1)].Select(p => (p - bottom) / height * Count - 0.5)], Count);
        var chosen = new SelectedSlice[Count];
        for (int index = 0; index < Count; index++)
        {
            int slice = lowest + slices[index], layer = index / SlicesPerLayer;
            double target = (index + 0.5) / Count * height;
            string where = millimetres
                ? FormattableString.Invariant($"{target:0} of {height:0} mm above the lowest brain slice")
                : FormattableString.Invariant($"step {index + 1} of {Count} over slices {lowest + 1} to {highest + 1}");
            if (index > 0 && slices[index] == slices[index - 1])
                where += FormattableString.Invariant($", repeated: the brain covers only {highest - lowest + 1} slices");
            chosen[index] = new SelectedSlice(index, slice, study.Slices[slice].Source, layer, Anatomy.Levels[layer], where);
        }
        return new SliceSelection(chosen, Box(profiles, chosen));
    }

    /// <summary>
    /// Which slice stands at each of the steps 0 … steps − 1, in order, with the least sum of squared distances: each slice at most once where there are
    /// enough, else each at least once. Taking the nearest slice for every step would drop some and repeat others where thickness changes.
    /// </summary>
    /// <param name="places">Rising places of the slices, in steps.</param>
    /// <param name="steps">How many are wanted, at least 1.</param>
    internal static int[] Assign(double[] places, int steps)
    {
        int n = places.Length;
        bool enough = n >= steps;
        // cost[i, s]: the least total of steps 0 … i when step i takes slice s; before[i, s]: the slice of step i − 1 in it, or −1.
        var cost = new double[steps, n];
        var before = new int[steps, n];
        for (int i = 0; i < steps; i++)
        {
            int best = -1; // where cost[i − 1, 0 … s − 1] is least
            for (int s = 0; s < n; s++)
            {
                if (i > 0 && s > 0 && (best < 0 || cost[i - 1, s - 1] < cost[i - 1, best]))
                    best = s - 1;
                int from = i == 0 || enough ? best : s > 0 && cost[i - 1, s - 1] < cost[i - 1, s] ? s - 1 : s;
                double until = from >= 0 ? cost[i - 1, from] : i == 0 && (enough || s == 0) ? 0 : double.PositiveInfinity;
                before[i, s] = from;
                cost[i, s] = until + (places[s] - i) * (places[s] - i);
            }
        }
        int last = n - 1;
        for (int s = 0; enough && s < n; s++)
        {
            if (cost[steps - 1, s] < cost[steps - 1, last])
                last = s;
        }
        var slices = new int[steps];
        for (int i = steps - 1; i >= 0; i--)
        {
            slices[i] = last;
            last = before[i, last];
        }
        return slices;
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
