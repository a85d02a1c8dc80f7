using Pcrl.Runtime.Studies;
using Pcrl.Runtime.Vision;
using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Fitting;

namespace Pcrl.Train.Tests.Data;

public sealed class PaintedBloodTests
{
    private const int Side = 64;

    private static readonly LesionKind[] Kinds = [LesionKind.Epidural, LesionKind.Subdural, LesionKind.Haemorrhage];

    /// <summary>A round skull of bone around even brain, or none where the radius is 0, without blood.</summary>
    private static RealScan Scan(int radius)
    {
        var slices = new byte[SliceSelector.Count * Side * Side];
        for (int i = 0; i < slices.Length; i++)
        {
            double away = Math.Sqrt(Math.Pow(i % Side - 31.5, 2) + Math.Pow(i / Side % Side - 31.5, 2));
            slices[i] = (byte)(away > radius ? 0 : away > radius - 3 ? 255 : 100);
        }
        byte[] labels = [.. Enumerable.Range(0, SliceSelector.Count).SelectMany(i => SliceLabels.Of(new CtIchSlice(i + 1, "", [], false)))];
        return new RealScan("1", false, new TrainingStudy(0, slices, labels, null, [], []));
    }

    private static List<RealScan> Make(RealScan scan, int count) => PaintedBlood.Make(
        [scan], new RunConfig { Visual = new VisualConfig { ImageSize = Side }, ScanFit = new ScanFitConfig { Painted = count } }, default);

    [Fact]
    public void Blood_is_bright_lies_inside_the_skull_and_is_labelled_where_it_is()
    {
        var scan = Scan(27);
        var painted = Make(scan, 60);
        Assert.Equal(60, painted.Count);
        var seen = new HashSet<LesionKind>();
        foreach (var one in painted)
        {
            Assert.True(one.Bleeding);
            for (int k = 0; k < SliceSelector.Count; k++)
            {
                byte[] before = scan.Study.Slices[(k * Side * Side)..((k + 1) * Side * Side)], after = one.Study.Slices[(k * Side * Side)..((k + 1) * Side * Side)];
                for (int i = 0; i < before.Length; i++)
                    Assert.True(before[i] == 100 ? after[i] is >= 100 and < 190 : after[i] == before[i]);
                byte[] labels = one.Study.Labels[(k * SliceLabels.Count)..((k + 1) * SliceLabels.Count)];
                var kinds = Kinds.Where(kind => labels[SliceLabels.IndexOf($"kind:{kind}")] == 1).ToList();
                Assert.Equal(before.SequenceEqual(after) ? 0 : 1, kinds.Count);
                Assert.Equal(kinds.Count, labels[SliceLabels.IndexOf("any-blood")]);
                seen.UnionWith(kinds);
            }
            Assert.False(scan.Study.Slices.SequenceEqual(one.Study.Slices));
        }
        Assert.Equal(Kinds.Order(), seen.Order());
        Assert.Equal(painted.Select(p => p.Study.Slices), Make(scan, 60).Select(p => p.Study.Slices)); // from the seed alone
    }

    [Fact]
    public void Nothing_is_painted_where_no_skull_closes()
    {
        var painted = Assert.Single(Make(Scan(0), 1));
        Assert.False(painted.Bleeding);
        Assert.Equal(0, painted.Study.Labels[SliceLabels.IndexOf("any-blood")]);
    }
}
