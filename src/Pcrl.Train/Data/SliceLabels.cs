using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Data;

/// <summary>
/// The fixed list of per-slice labels the trunk is taught, and the truth of a phantom in them: a label of a lesion is on for a slice where the lesion
/// shows at least <see cref="VisibleMm2"/>; a label of the whole study (atrophy, shift, …) is on for the slices where it can be seen.
/// </summary>
public static class SliceLabels
{
    /// <summary>Least visible area of a lesion on a slice, in mm².</summary>
    public const float VisibleMm2 = 25;

    private static readonly BrainRegion[] Regions =
    [
        BrainRegion.Frontal, BrainRegion.Temporal, BrainRegion.Parietal, BrainRegion.Occipital, BrainRegion.BasalGanglia, BrainRegion.Thalamus,
        BrainRegion.CoronaRadiata, BrainRegion.CentrumSemiovale, BrainRegion.Cerebellum, BrainRegion.BrainStem,
    ];

    private static readonly LesionKind[] Inside = [LesionKind.Haemorrhage, LesionKind.Infarct, LesionKind.Softening, LesionKind.Calcification];

    private static readonly LesionKind[] Blood =
        [LesionKind.Haemorrhage, LesionKind.Subdural, LesionKind.Epidural, LesionKind.Subarachnoid, LesionKind.Intraventricular];

    /// <summary>Names of the labels, in the order of the vectors. Kind labels stand alone ("kind:Subdural"), finer ones add region and side.</summary>
    public static IReadOnlyList<string> Names { get; } = MakeNames();

    /// <summary>Number of labels.</summary>
    public static int Count => Names.Count;

    private static readonly Dictionary<string, int> Indices = Names.Select((n, i) => (n, i)).ToDictionary(p => p.n, p => p.i);

    /// <summary>Position of a label in the vectors.</summary>
    /// <exception cref="KeyNotFoundException">There is no label of that name.</exception>
    public static int IndexOf(string name) => Indices[name];

    /// <summary>Labels of every slice.</summary>
    /// <returns>[slices, <see cref="Count"/>] row-major, 0 or 1.</returns>
    public static byte[] Of(Phantom phantom)
    {
        PhantomTruth truth = phantom.Truth;
        FindingFacts facts = truth.Facts;
        int slices = phantom.Study.Slices.Count;
        var labels = new byte[slices * Count];
        StudySize size = new(phantom);
        Span<int> left = stackalloc int[256], right = stackalloc int[256], organs = stackalloc int[256];
        for (int k = 0; k < slices; k++)
        {
            Span<byte> row = labels.AsSpan(k * Count, Count);
            size.Areas(k, left, right, organs);
            void Set(Span<byte> to, string name) => to[Indices[name]] = 1;

            int layer = truth.LayerOfSlice[k];
            if (layer >= 0) Set(row, $"layer:{layer}");
            for (int i = 0; i < truth.Lesions.Count; i++)
            {
                LesionFact fact = truth.Lesions[i].Fact;
                float areaLeft = left[i + 1] * size.PixelMm2, areaRight = right[i + 1] * size.PixelMm2;
                if (areaLeft + areaRight < VisibleMm2) continue;
                Set(row, $"kind:{fact.Kind}");
                if (Blood.Contains(fact.Kind)) Set(row, "any-blood");
                string place = fact.Region is BrainRegion.None or BrainRegion.Convexity ? $"{fact.Kind}" : $"{fact.Kind}:{fact.Region}";
                if (fact.Side == Side.Midline) Set(row, place);
                if (fact.Side == Side.Left || fact.Side == Side.Both && areaLeft >= VisibleMm2 / 2) Set(row, $"{place}:Left");
                if (fact.Side == Side.Right || fact.Side == Side.Both && areaRight >= VisibleMm2 / 2) Set(row, $"{place}:Right");
            }
            bool cerebrum = layer is >= 2 and <= 7, ventricles = organs[(int)PhantomOrgan.LateralVentricle] * size.PixelMm2 > 60;
            if (facts.VentriclesEnlarged && ventricles) Set(row, "ventricles-enlarged");
            if (facts.WhiteMatter && ventricles) Set(row, "white-matter");
            if (facts.Atrophy && cerebrum) Set(row, "atrophy");
            if (facts.Midline != MidlineShift.None && layer is >= 3 and <= 6) Set(row, $"shift:{facts.Midline}");
            if (facts.Sinusitis is { } sinus && organs[(int)PhantomOrgan.MaxillarySinus] * size.PixelMm2 > 150)
            {
                if (sinus != Side.Right) Set(row, "sinusitis:Left");
                if (sinus != Side.Left) Set(row, "sinusitis:Right");
            }
        }
        return labels;
    }

    /// <summary>
    /// Labels of a CT-ICH slice, as far as its labels go: which kinds of blood are there is known, their side and region only when there is none,
    /// and of everything else nothing.
    /// </summary>
    /// <returns>[<see cref="Count"/>], 0, 1 or <see cref="TrainingStudy.Unknown"/>.</returns>
    public static byte[] Of(CtIchSlice slice)
    {
        var labels = new byte[Count];
        Array.Fill(labels, TrainingStudy.Unknown);
        labels[Indices["any-blood"]] = (byte)(slice.Bleeds.Count > 0 ? 1 : 0);
        foreach (LesionKind kind in Blood)
        {
            bool present = slice.Bleeds.Contains(kind);
            labels[Indices[$"kind:{kind}"]] = (byte)(present ? 1 : 0);
            if (present) continue;
            for (int i = 0; i < Count; i++)
                if (Names[i].StartsWith($"{kind}:", StringComparison.Ordinal)) labels[i] = 0;
        }
        return labels;
    }

    /// <summary>Says of a slice's labels that it shows blood of one kind, nobody knows on which side.</summary>
    public static void AddBlood(Span<byte> labels, LesionKind kind)
    {
        labels[Indices["any-blood"]] = 1;
        labels[Indices[$"kind:{kind}"]] = 1;
        for (int i = 0; i < Count; i++)
        {
            if (Names[i].StartsWith($"{kind}:", StringComparison.Ordinal))
                labels[i] = TrainingStudy.Unknown;
        }
    }

    private static string[] MakeNames()
    {
        var names = new List<string> { "any-blood" };
        names.AddRange(Enum.GetValues<LesionKind>().Select(k => $"kind:{k}"));
        foreach (LesionKind kind in Inside)
            foreach (BrainRegion region in Regions)
            {
                if (PhantomLesions.PlaceWeight(kind, region) == 0) continue;
                if (region == BrainRegion.BrainStem) names.Add($"{kind}:{region}");
                else names.AddRange([$"{kind}:{region}:Left", $"{kind}:{region}:Right"]);
            }
        names.AddRange(["Subdural:Left", "Subdural:Right"]);
        foreach (BrainRegion region in Regions.Take(4)) names.AddRange([$"Epidural:{region}:Left", $"Epidural:{region}:Right"]);
        names.AddRange(["Subarachnoid:Left", "Subarachnoid:Right", "Intraventricular:Left", "Intraventricular:Right"]);
        names.AddRange(["ventricles-enlarged", "atrophy", "white-matter", "shift:Left", "shift:Right", "sinusitis:Left", "sinusitis:Right"]);
        for (int layer = 0; layer < 8; layer++) names.Add($"layer:{layer}");
        return [.. names];
    }

    /// <summary>Counts mask pixels per slice.</summary>
    private readonly struct StudySize(Phantom phantom)
    {
        private readonly int _side = phantom.Study.Slices[0].Width;

        public float PixelMm2 { get; } = phantom.Study.Slices[0].PixelSpacingX * phantom.Study.Slices[0].PixelSpacingY;

        /// <summary>Pixels of each lesion in the patient's left and right half (image right and left), and of each organ.</summary>
        public void Areas(int slice, Span<int> left, Span<int> right, Span<int> organs)
        {
            left.Clear();
            right.Clear();
            organs.Clear();
            int start = slice * _side * _side;
            for (int i = 0; i < _side * _side; i++)
            {
                organs[phantom.Masks.Organs[start + i]]++;
                byte mark = phantom.Masks.Lesions[start + i];
                if (mark == 0) continue;
                if (i % _side >= _side / 2) left[mark]++;
                else right[mark]++;
            }
        }
    }
}
