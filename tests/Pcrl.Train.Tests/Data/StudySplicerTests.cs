using Pcrl.Runtime.Studies;
using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Tests.Data;

public sealed class StudySplicerTests
{
    private static TrainingStudy View(LesionKind kind, params int[] bleeding) => RealStudies.Labelled(0, [], [.. Enumerable.Range(0, SliceSelector.Count)
        .SelectMany(i => SliceLabels.Of(new CtIchSlice(i + 1, "", bleeding.Contains(i) ? [kind] : [], false)))]);

    [Fact]
    public void A_study_says_what_the_labels_of_its_slices_say()
    {
        TrainingStudy[] views = [View(LesionKind.Epidural, 3, 4), View(LesionKind.Subdural, 20), View(LesionKind.Subdural)];
        var splicer = new StudySplicer(views);
        var random = new PhantomRandom(5);
        int bleed = 0, most = 0;
        var seen = new HashSet<string>();
        const int draws = 400;
        for (int n = 0; n < draws; n++)
        {
            var (sources, study) = splicer.Next(random);
            var shown = new HashSet<LesionKind>();
            for (int i = 0; i < SliceSelector.Count; i++)
            {
                if (sources[i] == 0 && i is 3 or 4) shown.Add(LesionKind.Epidural);
                if (sources[i] == 1 && i == 20) shown.Add(LesionKind.Subdural);
                var source = views[sources[i]].Labels.AsSpan(i * SliceLabels.Count, SliceLabels.Count);
                Assert.True(source.SequenceEqual(study.Labels.AsSpan(i * SliceLabels.Count, SliceLabels.Count)));
            }
            Assert.All(study.Findings, text => Assert.Equal(shown.Order(), FindingFacts.Parse(text).Lesions.Select(l => l.Kind).Order()));
            bleed += shown.Count > 0 ? 1 : 0;
            most = Math.Max(most, 1 + Enumerable.Range(1, SliceSelector.Count - 1).Count(i => sources[i] != sources[i - 1]));
            seen.Add(string.Join(' ', sources));
        }
        Assert.InRange(bleed, 0.33 * draws, 0.47 * draws); // two in five
        Assert.Equal(3, most);
        Assert.True(seen.Count > draws / 4, $"{seen.Count} different studies");
    }

    [Fact]
    public void Where_nothing_bleeds_every_study_denies_blood()
    {
        var splicer = new StudySplicer([View(LesionKind.Subdural)]);
        Assert.Empty(FindingFacts.Parse(splicer.Next(new PhantomRandom(1)).Study.Findings[0]).Lesions);
    }
}
