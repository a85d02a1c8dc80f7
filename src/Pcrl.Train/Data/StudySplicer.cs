using Pcrl.Runtime.Studies;

namespace Pcrl.Train.Data;

/// <summary>
/// Puts studies together from runs of neighbouring slices of one to three views of real scans, a new one whenever it is asked. What the labels of the slices say is what the text of
/// the whole says, so a few dozen scans give any number of studies with true texts, none of which can be learned by heart as a whole; two in five bleed, about as in the data set. Where a
/// bleeding lies, how far it reaches and whose head it is in then tells nothing. The trunk sees slices one by one, so the features of the views are those of every study.
/// </summary>
/// <param name="views">Labelled scans of 24 slices; at least one.</param>
internal sealed class StudySplicer(IReadOnlyList<TrainingStudy> views)
{
    /// <summary>Most views that one study takes slices from.</summary>
    private const int MostSources = 3;

    private const int Tries = 20;

    private static readonly int AnyBlood = SliceLabels.IndexOf("any-blood");

    /// <summary>The next study.</summary>
    /// <param name="random">Chooses.</param>
    /// <returns>The view from which each slice comes, and labels and label-derived findings; pictures it has none.</returns>
    public (int[] Sources, TrainingStudy Study) Next(PhantomRandom random)
    {
        bool bleeding = random.Below(5) < 2;
        var (sources, labels) = Draw(random);
        for (int i = 0; i < Tries && Bleeds(labels) != bleeding; i++)
            (sources, labels) = Draw(random);
        return (sources, RealStudies.Labelled(random.Next(), [], labels) with { Spliceable = true });
    }

    private (int[] Sources, byte[] Labels) Draw(PhantomRandom random)
    {
        var sources = new int[SliceSelector.Count];
        var labels = new byte[SliceSelector.Count * SliceLabels.Count];
        int parts = 1 + random.Below(MostSources);
        int[] cuts = [0, .. Enumerable.Range(1, parts - 1).Select(_ => random.Below(SliceSelector.Count)).Order(), SliceSelector.Count];
        for (int part = 0; part < parts; part++)
        {
            int view = random.Below(views.Count), from = cuts[part], length = cuts[part + 1] - from;
            sources.AsSpan(from, length).Fill(view);
            views[view].Labels.AsSpan(from * SliceLabels.Count, length * SliceLabels.Count).CopyTo(labels.AsSpan(from * SliceLabels.Count));
        }
        return (sources, labels);
    }

    private static bool Bleeds(byte[] labels) => Enumerable.Range(0, SliceSelector.Count).Any(i => labels[i * SliceLabels.Count + AnyBlood] == 1);
}
