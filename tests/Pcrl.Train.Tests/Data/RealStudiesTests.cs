using Pcrl.Runtime.Studies;
using Pcrl.Runtime.Vision;
using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Fitting;

namespace Pcrl.Train.Tests.Data;

[Collection("torch")]
public sealed class RealStudiesTests
{
    private const int Size = 8;

    /// <summary>A scan whose slices all have one grey value, bleeding on the given slices.</summary>
    private static RealScan Scan(string patient, byte grey, LesionKind kind, params int[] bleeding)
    {
        var slices = new byte[SliceSelector.Count * Size * Size];
        Array.Fill(slices, grey);
        byte[] labels = [.. Enumerable.Range(0, SliceSelector.Count)
            .SelectMany(i => SliceLabels.Of(new CtIchSlice(i + 1, "", bleeding.Contains(i) ? [kind] : [], false)))];
        return new RealScan(patient, bleeding.Length > 0, new TrainingStudy(0, slices, labels, null, [], []));
    }

    [Fact]
    public void Views_take_real_and_painted_scans_in_turn_and_keep_their_labels()
    {
        RealScan[] scans = [Scan("1", 50, LesionKind.Epidural, 3, 4), Scan("2", 100, LesionKind.Subdural)], painted = [Scan("1", 150, LesionKind.Subdural, 7)];
        List<TrainingStudy> Views(float strength, RealScan[] painted) => RealStudies.Views(scans, painted, new RunConfig
        {
            Visual = new VisualConfig { ImageSize = Size },
            ScanFit = new ScanFitConfig { Views = 5, ViewAugmentation = strength },
        }, new Progress<StageProgress>(), default);
        var views = Views(0, painted);
        Assert.Equal([50, 150, 100, 150, 50], views.Select(v => v.Slices[^1]));
        Assert.Equal([50, 100, 50, 100, 50], Views(0, []).Select(v => v.Slices[0]));
        Assert.Equal(scans[0].Study.Labels, views[0].Labels);
        Assert.All(views, v => Assert.True(v.Spliceable));
        Assert.NotEqual(views[0].Slices, Views(0.3f, painted)[0].Slices);
        Assert.Throws<OperationCanceledException>(() => RealStudies.Views(scans, painted, new RunConfig(), new Progress<StageProgress>(), new CancellationToken(canceled: true)));
    }

    [Fact]
    public void A_mirror_image_is_drawn_half_of_the_time()
    {
        var drawn = Enumerable.Range(0, 20).Select(seed => SliceAugmentation.Move.Draw(new Random(seed), 0, sideless: true).XX).ToHashSet();
        Assert.Equal([-1f, 1f], drawn.Order());
    }

    [Fact]
    public void A_slice_without_labelled_sides_turns_further()
    {
        double Furthest(bool sideless) => Enumerable.Range(0, 200).Max(seed => Math.Abs(Math.Asin(Turn(seed, sideless))));
        static float Turn(int seed, bool sideless)
        {
            var move = SliceAugmentation.Move.Draw(new Random(seed), 1, sideless);
            return move.YY == 0 ? 1 : -move.XY / MathF.Sqrt(move.XY * move.XY + move.YY * move.YY);
        }
        Assert.InRange(Furthest(sideless: false), 0.2, 0.25);
        Assert.InRange(Furthest(sideless: true), 0.5, 0.6);
    }
}
