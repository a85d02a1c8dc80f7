using Pcrl.Runtime.Studies;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Data;

/// <summary>Makes synthetic head CTs with a matching findings text. Thread-safe; the same seed and options give the same bits on every machine.</summary>
public static class PhantomGenerator
{
    /// <summary>A lesion smaller than this is not visible and is left out of the truth.</summary>
    private const float SmallestVisibleMl = 0.1f;

    /// <summary>Makes the phantom of <paramref name="seed"/>.</summary>
    /// <param name="seed">Any number; neighbouring seeds are unrelated.</param>
    /// <param name="options">Size and difficulty; defaults to 128 pixels, medium.</param>
    /// <exception cref="ArgumentOutOfRangeException">Image size outside 32..1024 or difficulty outside 0..1.</exception>
    public static Phantom Create(ulong seed, PhantomOptions? options = null)
    {
        options ??= new PhantomOptions();
        ArgumentOutOfRangeException.ThrowIfLessThan(options.ImageSize, 32);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(options.ImageSize, 1024);
        if (!(options.Difficulty is >= 0 and <= 1)) throw new ArgumentOutOfRangeException(nameof(options), "difficulty must lie in 0..1");

        PhantomPlan plan = PhantomPlan.Draw(seed, options.Difficulty);
        var renderer = new PhantomRenderer(plan, seed, options.ImageSize);
        int size = options.ImageSize, count = plan.SliceCount;
        float pixel = plan.FieldOfView / size;
        var organs = new byte[count * size * size];
        var lesions = new byte[organs.Length];
        var slices = new StudySlice[count];
        var layers = new int[count];
        for (int k = 0; k < count; k++)
        {
            var pixels = new float[size * size];
            renderer.Draw(k, pixels, organs.AsSpan(k * size * size, size * size), lesions.AsSpan(k * size * size, size * size));
            slices[k] = new StudySlice($"phantom-{seed}#{k + 1}", SlicePixels.Of(pixels, size), pixel, pixel, renderer.Position(k), plan.Spacing);
            layers[k] = PhantomAnatomy.Layer(renderer.AxisHeight(k));
        }
        var masks = new PhantomMasks(organs, lesions);
        PhantomTruth truth = Tell(plan, masks, pixel, layers);
        var study = new Study("phantom", PixelUnit.Hounsfield, slices, [], 0, (40, 80));
        return new Phantom(seed, study, PhantomText.Compose(truth, new PhantomRandom(seed, 4)), truth, masks);
    }

    /// <summary>Turns the plan into the truth of what became visible, and renumbers the lesion masks to its order.</summary>
    private static PhantomTruth Tell(PhantomPlan plan, PhantomMasks masks, float pixel, int[] layers)
    {
        var voxels = new int[plan.Lesions.Count + 1];
        foreach (byte mark in masks.Lesions) voxels[mark]++;
        float ml = pixel * pixel * plan.Spacing / 1000;
        int[] order = [.. Enumerable.Range(0, plan.Lesions.Count)
            .Where(i => voxels[i + 1] * ml >= SmallestVisibleMl)
            .OrderByDescending(i => voxels[i + 1]).ThenBy(i => i)];
        var renumber = new byte[plan.Lesions.Count + 1];
        var lesions = new List<PhantomLesion>();
        foreach (int i in order)
        {
            PlannedLesion l = plan.Lesions[i];
            renumber[i + 1] = (byte)(lesions.Count + 1);
            bool extra = l.Fact.Kind is LesionKind.Subdural or LesionKind.Epidural;
            float small = extra ? 8 : 20, large = extra ? 15 : 35;
            LesionSize size = l.LongSide < small ? LesionSize.Small : l.LongSide < large ? LesionSize.Medium : LesionSize.Large;
            lesions.Add(new PhantomLesion(l.Fact, size, l.LongSide, l.Density, l.Blobs.Count > 1, l.Oedema > 0, voxels[i + 1] * ml));
        }
        for (int i = 0; i < masks.Lesions.Length; i++) masks.Lesions[i] = renumber[masks.Lesions[i]];
        MidlineShift shift = plan.ShiftMm == 0 ? MidlineShift.None : plan.ShiftDirection > 0 ? MidlineShift.Left : MidlineShift.Right;
        var facts = new FindingFacts([.. lesions.Select(l => l.Fact)], plan.VentriclesEnlarged, plan.Atrophy, shift, plan.WhiteMatter, plan.Sinusitis);
        return new PhantomTruth(facts, lesions, plan.ShiftMm, plan.ShiftMm > 0, layers, PhantomText.KeyPhrases(facts, lesions));
    }
}
