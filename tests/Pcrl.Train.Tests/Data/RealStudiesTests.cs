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
    public void A_spliced_study_says_what_the_labels_of_its_slices_say()
    {
        RealScan[] scans = [Scan("1", 50, LesionKind.Epidural, 3, 4), Scan("2", 100, LesionKind.Subdural, 20), Scan("3", 150, LesionKind.Subdural)];
        var studies = RealStudies.Splice(scans, [], new RunConfig
        {
            Visual = new VisualConfig { ImageSize = Size },
            ScanFit = new ScanFitConfig { Splices = 60, SpliceAugmentation = 0 },
        });
        Assert.Equal(60, studies.Count);
        bool mixed = false;
        for (int s = 0; s < studies.Count; s++)
        {
            var study = studies[s];
            var shown = new HashSet<LesionKind>();
            for (int i = 0; i < SliceSelector.Count; i++)
            {
                byte grey = study.Slices[i * Size * Size];
                if (grey == 50 && i is 3 or 4) shown.Add(LesionKind.Epidural);
                if (grey == 100 && i == 20) shown.Add(LesionKind.Subdural);
                var source = scans[grey / 50 - 1].Study.Labels.AsSpan(i * SliceLabels.Count, SliceLabels.Count);
                Assert.True(source.SequenceEqual(study.Labels.AsSpan(i * SliceLabels.Count, SliceLabels.Count)));
                mixed |= grey != study.Slices[0];
            }
            Assert.All(study.Findings, text => Assert.Equal(shown.Order(), FindingFacts.Parse(text).Lesions.Select(l => l.Kind).Order()));
            Assert.Equal(s % 5 < 2, shown.Count > 0);
        }
        Assert.True(mixed);
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
