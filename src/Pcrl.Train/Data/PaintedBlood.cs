using Pcrl.Runtime.Studies;
using Pcrl.Train.Clues;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Fitting;

namespace Pcrl.Train.Data;

/// <summary>
/// Bleedings painted into real scans: a lens or a crescent along the inside of the skull, or a patch in the brain, brighter than the brain by as much as blood is. A few dozen
/// heads show few bleedings, and most of them thin; painted ones come in any number on real texture and real skulls. The kinds that fill cisterns and ventricles are not painted.
/// </summary>
internal static class PaintedBlood
{
    /// <summary>Side of a prepared slice in mm, about: the crop leaves a tenth around a head of 165 mm on either side.</summary>
    private const float FieldMm = 200;

    /// <summary>Distance of the 24 slices in mm, about.</summary>
    private const float SliceMm = 5;

    /// <summary>Least area that is called a bleeding, in mm².</summary>
    private const float LeastMm2 = SliceLabels.VisibleMm2;

    /// <summary>Grey from which a pixel is bone.</summary>
    private const byte Bone = 190;

    /// <summary>Copies of randomly chosen scans, each with one more bleeding.</summary>
    /// <param name="scans">At least one.</param>
    /// <param name="config">How many, the size of the slices and the seed.</param>
    /// <param name="cancellation">Looked at before every copy.</param>
    public static List<RealScan> Make(IReadOnlyList<RealScan> scans, RunConfig config, CancellationToken cancellation)
    {
        int side = config.Visual.ImageSize, count = config.ScanFit.Painted;
        var painted = new List<RealScan>(count);
        for (int i = 0; i < count; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            painted.Add(Paint(scans[i % scans.Count], side, new Random(HashCode(config.Seed, i))));
        }
        return painted;
    }

    private static int HashCode(int seed, int number) => (int)new PhantomRandom((ulong)seed, (ulong)number).Next();

    private static RealScan Paint(RealScan scan, int side, Random random)
    {
        const int tries = 8; // where a skull is open or narrow, nothing fits
        var painted = scan;
        for (int i = 0; i < tries && ReferenceEquals(painted, scan); i++)
            painted = PaintOne(scan, side, random);
        return painted;
    }

    /// <summary>The scan with one bleeding more, or as it is where the drawn one has no place.</summary>
    private static RealScan PaintOne(RealScan scan, int side, Random random)
    {
        float Range(float low, float high) => low + (high - low) * random.NextSingle();
        LesionKind kind = random.Next(20) switch { < 9 => LesionKind.Epidural, < 13 => LesionKind.Subdural, _ => LesionKind.Haemorrhage };
        // Thickness and half length along the skull, or the radii of a patch, in mm.
        var (thick, reach) = kind switch
        {
            LesionKind.Epidural => (Range(3, 14), Range(10, 32)),
            LesionKind.Subdural => (Range(2.5f, 9), Range(30, 75)),
            _ => Range(4, 18) is var r ? (r, r * Range(0.6f, 1)) : default,
        };
        float brighter = Range(0.09f, 0.30f) * 255, mm = FieldMm / side, half = Math.Max(1.2f, 0.7f * Math.Min(reach, 40) / SliceMm);
        var (wave, phase, sin, cos) = (Range(2, 5), Range(0, 6.28f), 0f, 0f);
        (sin, cos) = MathF.SinCos(Range(0, 3.14f));
        int middle = 3 + random.Next(SliceSelector.Count - 4);

        byte[] slices = [.. scan.Study.Slices], labels = [.. scan.Study.Labels];
        (float X, float Y)? anchor = null;
        bool any = false;
        foreach (int k in Enumerable.Range(0, SliceSelector.Count).OrderBy(k => Math.Abs(k - middle)))
        {
            float away = (k - middle) / half;
            if (Math.Abs(away) >= 1)
                break;
            var plane = slices.AsSpan(k * side * side, side * side);
            if (Inside(plane, side) is not { } inside)
            {
                if (anchor is null) break; // at the skull base: no closed ring to paint into
                continue;
            }
            float[] depth = Depths(inside, side); // pixels to the skull
            float enough = kind == LesionKind.Haemorrhage ? Math.Min(reach / mm, depth.Max() / 2) : 0;
            int[] places = [.. Enumerable.Range(0, depth.Length).Where(i => inside[i] && (enough > 0 ? depth[i] > enough : depth[i] <= 1.5f))];
            if (places.Length == 0)
                continue;
            int at = anchor is { } a ? places.MinBy(i => Square(i % side - a.X) + Square(i / side - a.Y)) : places[random.Next(places.Length)];
            (float x0, float y0) = anchor ??= (at % side, at / side);
            if (enough == 0)
                (x0, y0) = (at % side, at / side);
            float shrink = MathF.Sqrt(1 - away * away), area = 0;
            var cover = new float[depth.Length];
            for (int i = 0; i < cover.Length; i++)
            {
                if (!inside[i])
                    continue;
                float dx = (i % side - x0) * mm, dy = (i / side - y0) * mm;
                float rough = 1 + 0.2f * MathF.Sin(wave * MathF.Atan2(dy, dx) + phase);
                float edge = kind == LesionKind.Haemorrhage
                    ? (shrink * rough - MathF.Sqrt(Square((dx * cos + dy * sin) / thick) + Square((dy * cos - dx * sin) / reach))) * reach
                    : thick * shrink * rough * (1 - (dx * dx + dy * dy) / Square(reach * shrink)) - (depth[i] - 0.5f) * mm;
                area += cover[i] = Math.Clamp(edge / mm + 0.5f, 0, 1);
            }
            if (area * mm * mm < LeastMm2)
                continue;
            float brain = Median(plane, inside);
            for (int i = 0; i < cover.Length; i++)
                plane[i] = (byte)Math.Clamp(plane[i] + cover[i] * (brain + brighter + 0.5f * (plane[i] - brain) - plane[i]) + 0.5f, 0, 255);
            any = true;
            SliceLabels.AddBlood(labels.AsSpan(k * SliceLabels.Count, SliceLabels.Count), kind);
        }
        return !any ? scan : scan with { Bleeding = true, Study = scan.Study with { Slices = slices, Labels = labels } };
    }

    /// <summary>What bone encloses on a slice; null where nothing large is closed in.</summary>
    private static bool[]? Inside(ReadOnlySpan<byte> plane, int side)
    {
        var soft = new bool[plane.Length];
        for (int i = 0; i < soft.Length; i++)
            soft[i] = plane[i] < Bone;
        var (labels, sizes) = MaskGeometry.Components(soft, side, side, value: true);
        var open = new HashSet<int> { -1 };
        for (int i = 0; i < side; i++)
            open.UnionWith([labels[i], labels[^(i + 1)], labels[i * side], labels[i * side + side - 1]]);
        int best = -1;
        for (int i = 0; i < sizes.Count; i++)
        {
            if (!open.Contains(i) && sizes[i] > soft.Length / 12 && (best < 0 || sizes[i] > sizes[best]))
                best = i;
        }
        return best < 0 ? null : Array.ConvertAll(labels, l => l == best);
    }

    /// <summary>About how many pixels every pixel inside is away from the edge, by two sweeps of a chamfer distance.</summary>
    private static float[] Depths(bool[] inside, int side)
    {
        var depth = Array.ConvertAll(inside, i => i ? float.MaxValue : 0);
        void Visit(int at, int dx, int dy, float step)
        {
            int x = at % side + dx, y = at / side + dy;
            if (depth[at] > 0 && x >= 0 && y >= 0 && x < side && y < side)
                depth[at] = Math.Min(depth[at], depth[y * side + x] + step);
        }
        foreach (int sign in (ReadOnlySpan<int>)[-1, 1])
        {
            for (int n = 0; n < depth.Length; n++)
            {
                int at = sign < 0 ? n : depth.Length - 1 - n;
                Visit(at, sign, 0, 1);
                Visit(at, 0, sign, 1);
                Visit(at, sign, sign, 1.414f);
                Visit(at, -sign, sign, 1.414f);
            }
        }
        return depth;
    }

    private static float Median(ReadOnlySpan<byte> plane, bool[] inside)
    {
        var counts = new int[256];
        int all = 0;
        for (int i = 0; i < inside.Length; i++)
        {
            if (inside[i])
                (counts[plane[i]], all) = (counts[plane[i]] + 1, all + 1);
        }
        int value = 0;
        for (int seen = counts[0]; 2 * seen < all; seen += counts[value])
            value++;
        return value;
    }

    private static float Square(float value) => value * value;
}
