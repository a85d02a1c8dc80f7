using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Data;

/// <summary>Draws which lesions a phantom has, and their place, size and density.</summary>
internal static class PhantomLesions
{
    private static readonly BrainRegion[] Places =
    [
        BrainRegion.Frontal, BrainRegion.Temporal, BrainRegion.Parietal, BrainRegion.Occipital, BrainRegion.BasalGanglia,
        BrainRegion.Thalamus, BrainRegion.CoronaRadiata, BrainRegion.CentrumSemiovale, BrainRegion.Cerebellum, BrainRegion.BrainStem,
    ];

    /// <summary>How often each of <see cref="Places"/> is hit, by kind.</summary>
    private static float[] PlaceWeights(LesionKind kind) => kind switch
    {
        LesionKind.Haemorrhage => [14, 13, 13, 12, 19, 12, 0, 0, 12, 5],
        LesionKind.Infarct => [13, 12, 12, 12, 15, 8, 7, 7, 10, 4],
        LesionKind.Softening => [20, 19, 18, 18, 12, 0, 0, 0, 13, 0],
        _ => [18, 17, 17, 17, 16, 0, 0, 0, 15, 0],
    };

    /// <summary>Relative frequency of a region for an intra-axial kind; 0 where the kind does not occur.</summary>
    public static float PlaceWeight(LesionKind kind, BrainRegion region) => PlaceWeights(kind)[Array.IndexOf(Places, region)];

    /// <summary>Range of the longest side in mm.</summary>
    private static (float Low, float High) LongSides(LesionKind kind, BrainRegion region) => (kind, region) switch
    {
        (LesionKind.Calcification, _) => (9, 15),
        (_, BrainRegion.BasalGanglia) => (16, 36),
        (_, BrainRegion.Thalamus) => (14, 24),
        (_, BrainRegion.CoronaRadiata or BrainRegion.CentrumSemiovale) => (16, 27),
        (_, BrainRegion.Cerebellum) => (18, 38),
        (_, BrainRegion.BrainStem) => (14, 22),
        (_, BrainRegion.Occipital) => (20, 44),
        (_, BrainRegion.Temporal) => (20, 46),
        _ => (20, 54),
    };

    /// <summary>Box for the centre in canonical mm: |x|, y and z.</summary>
    private static (float X0, float X1, float Y0, float Y1, float Z0, float Z1) Box(BrainRegion region) => region switch
    {
        BrainRegion.Frontal => (18, 38, 26, 50, 6, 46),
        BrainRegion.Temporal => (42, 54, -30, 2, -26, -12),
        BrainRegion.Parietal => (20, 42, -58, -36, 36, 54),
        BrainRegion.Occipital => (16, 34, -90, -76, 0, 20),
        BrainRegion.BasalGanglia => (22, 28, -4, 10, 1, 11),
        BrainRegion.Thalamus => (10, 14, -22, -14, 4, 11),
        BrainRegion.CoronaRadiata => (22, 28, -18, 10, 25, 31),
        BrainRegion.CentrumSemiovale => (20, 28, -28, 14, 41, 48),
        BrainRegion.Cerebellum => (20, 36, -72, -54, -46, -32),
        BrainRegion.BrainStem => (0, 2, -28, -23, -38, -24),
        _ => throw new ArgumentOutOfRangeException(nameof(region)),
    };

    public static void Draw(PhantomPlan plan, PhantomRandom random)
    {
        LesionKind kind = (LesionKind)random.Weighted([24, 27, 11, 8, 9, 8, 7, 6]);
        PlannedLesion main = DrawOne(plan, random, kind, 1, avoid: null)!;
        plan.Lesions.Add(main);
        int more = random.Weighted([66, 25, 9]);
        for (int i = 0; i < more; i++)
        {
            // A second lesion stays well below the first in volume, so which one is the main lesion is never in doubt.
            float limit = 0.6f;
            if (kind == LesionKind.Calcification || main.LongSide < 16) break;
            LesionKind other = random.Pick(LesionKind.Infarct, LesionKind.Softening, LesionKind.Calcification, LesionKind.Haemorrhage);
            PlannedLesion? lesion = DrawOne(plan, random, other, limit, avoid: plan.Lesions);
            if (lesion?.LongSide >= (other == LesionKind.Calcification ? 7 : 11)) plan.Lesions.Add(lesion);
        }
        DrawMassEffect(plan, random, main);
    }

    private static void DrawMassEffect(PhantomPlan plan, PhantomRandom random, PlannedLesion main)
    {
        bool pushes = main.Fact.Side is Side.Left or Side.Right && main.Fact.Kind switch
        {
            LesionKind.Haemorrhage or LesionKind.Infarct => main.LongSide >= 38 && main.Fact.Region is not BrainRegion.Cerebellum,
            LesionKind.Subdural => main.LongSide >= 9,
            LesionKind.Epidural => main.LongSide >= 16,
            _ => false,
        };
        if (!pushes || random.Chance(0.15)) return;
        plan.ShiftMm = random.Range(5.5f, 11) - 2 * (plan.Difficulty - 0.5f);
        plan.ShiftDirection = main.Fact.Side == Side.Left ? -1 : 1;
        plan.ShiftY = main.Blobs[0].Y * 0.3f;
        plan.ShiftZ = Math.Clamp(main.Blobs[0].Z, 8, 30);
    }

    private static PlannedLesion? DrawOne(PhantomPlan plan, PhantomRandom random, LesionKind kind, float limit, IReadOnlyList<PlannedLesion>? avoid)
    {
        for (int attempt = 0; attempt < 20; attempt++)
        {
            LesionFact fact = DrawFact(random, kind);
            if (avoid is not null && avoid.Any(l => Near(l.Fact, fact))) continue;
            float longest = limit < 1 ? avoid![0].LongSide * limit : float.MaxValue;
            return Place(plan, random, fact, longest);
        }
        return null;
    }

    private static bool Near(LesionFact a, LesionFact b) => a.Region == b.Region || a.Kind == b.Kind && a.Side == b.Side;

    private static LesionFact DrawFact(PhantomRandom random, LesionKind kind)
    {
        Side side = random.Pick(Side.Left, Side.Right);
        switch (kind)
        {
            case LesionKind.Subdural:
                return new(kind, BrainRegion.Convexity, side);
            case LesionKind.Epidural:
                return new(kind, random.Pick(BrainRegion.Frontal, BrainRegion.Temporal, BrainRegion.Parietal, BrainRegion.Occipital), side);
            case LesionKind.Subarachnoid or LesionKind.Intraventricular:
                return new(kind, BrainRegion.None, random.Pick(Side.Left, Side.Right, Side.Both));
        }
        BrainRegion region = Places[random.Weighted(PlaceWeights(kind))];
        if (region == BrainRegion.BrainStem) side = Side.Midline;
        if (kind == LesionKind.Infarct && region is BrainRegion.BasalGanglia or BrainRegion.CoronaRadiata or BrainRegion.CentrumSemiovale
            && random.Chance(0.3)) side = Side.Both;
        return new(kind, region, side);
    }

    private static PlannedLesion Place(PhantomPlan plan, PhantomRandom random, LesionFact fact, float longest)
    {
        float d = plan.Difficulty, bigger = 1.25f - 0.5f * d;
        float density = fact.Kind switch
        {
            LesionKind.Infarct => random.Range(13, 19) + 7 * (d - 0.5f),
            LesionKind.Softening => random.Range(4, 9) + 5 * (d - 0.5f),
            LesionKind.Calcification => random.Range(130, 320),
            LesionKind.Subarachnoid => random.Range(52, 64) - 12 * (d - 0.5f),
            _ => random.Range(54, 71) - 14 * (d - 0.5f),
        };
        int sign = fact.Side == Side.Right ? -1 : 1;
        switch (fact.Kind)
        {
            case LesionKind.Epidural or LesionKind.Subdural:
            {
                bool lens = fact.Kind == LesionKind.Epidural;
                float thick = bigger * (lens ? random.Range(10, 24) : random.Range(6, 15));
                var (y, z) = fact.Region switch
                {
                    BrainRegion.Frontal => (random.Range(34, 44), random.Range(12, 34)),
                    BrainRegion.Temporal => (random.Range(-14, 4), random.Range(-18, -6)),
                    BrainRegion.Parietal => (random.Range(-52, -40), random.Range(36, 48)),
                    BrainRegion.Occipital => (random.Range(-86, -78), random.Range(2, 14)),
                    _ => (random.Range(-22, -4), random.Range(18, 30)),
                };
                float reach = lens ? random.Range(28, 38) : random.Range(62, 80);
                return new(fact, thick, density, 0, [new(sign * 50, y, z, thick, reach, reach * (lens ? 0.9f : 0.8f), 1, 0)]);
            }
            case LesionKind.Subarachnoid or LesionKind.Intraventricular:
                return new(fact, 30 * bigger, density, 0, [new(0, random.Range(-40, -20), 0, 1, 1, 1, 1, 0)]);
        }

        var (low, high) = LongSides(fact.Kind, fact.Region);
        var box = Box(fact.Region);
        var blobs = new List<LesionBlob>();
        float longSide = Math.Min(longest, bigger * random.Range(low, high));
        if (fact.Side == Side.Both)
        {
            longSide = bigger * random.Range(10, 15);
            density -= 5;
            for (int s = -1; s <= 1; s += 2)
                for (int i = random.Pick(2, 3); i > 0; i--)
                    blobs.Add(Blob(random, box, s, longSide * random.Range(0.75f, 1f)));
        }
        else
        {
            blobs.Add(Blob(random, box, sign, longSide));
        }
        float oedema = fact.Kind == LesionKind.Haemorrhage && longSide > 18 && random.Chance(0.8) ? random.Range(0.10f, 0.22f) * longSide : 0;
        return new(fact, longSide, density, oedema, blobs);
    }

    private static LesionBlob Blob(PhantomRandom random, (float X0, float X1, float Y0, float Y1, float Z0, float Z1) box, int sign, float longSide)
    {
        // Small ones are rounder, or partial volume would swallow them.
        float r = longSide / 2, thin = longSide < 22 ? 0.78f : 0.62f, thick = longSide < 22 ? 0.95f : 0.85f, sin = 0.7f * random.Bell();
        sin = Math.Clamp(sin, -0.95f, 0.95f);
        return new(
            sign * random.Range(box.X0, box.X1), random.Range(box.Y0, box.Y1), random.Range(box.Z0, box.Z1),
            r * random.Range(thin, thick), r, r * random.Range(thin, thick), MathF.Sqrt(1 - sin * sin), sin);
    }
}
