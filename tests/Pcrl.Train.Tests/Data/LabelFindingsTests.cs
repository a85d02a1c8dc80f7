using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Tests.Data;

public sealed class LabelFindingsTests
{
    [Fact]
    public void Every_opening_reads_as_what_it_was_worded_from()
    {
        Assert.All(LabelFindings.Openings(bleeding: true), o => Assert.Contains(Assert.Single(FindingFacts.Parse(o + "。").Lesions).Kind, LabelFindings.Kinds));
        Assert.All(LabelFindings.Openings(bleeding: false), o =>
        {
            Assert.Empty(FindingFacts.Parse(o + "。").Lesions);
            // The words that state blood stand in no text that denies it, so that even a reader who looks for words alone is right.
            Assert.DoesNotContain("高密度", o);
            Assert.DoesNotContain("出血", o);
        });
    }

    [Fact]
    public void No_opening_is_the_beginning_of_another()
    {
        string[] all = [.. LabelFindings.Openings(true), .. LabelFindings.Openings(false)];
        Assert.All(all, a => Assert.Single(all, b => b.StartsWith(a, StringComparison.Ordinal)));
    }

    [Fact]
    public void A_text_states_the_labelled_kinds_in_order_and_neither_side_nor_place()
    {
        LesionKind[][] labels = [[], [LesionKind.Subdural], [LesionKind.Epidural, LesionKind.Haemorrhage], [.. LabelFindings.Kinds]];
        foreach (var kinds in labels)
        {
            for (ulong seed = 0; seed < 20; seed++)
            {
                var lesions = FindingFacts.Parse(LabelFindings.Compose(kinds, new PhantomRandom(seed))).Lesions;
                Assert.Equal(kinds, lesions.Select(l => l.Kind));
                Assert.All(lesions, l => Assert.Equal((BrainRegion.None, Side.Midline), (l.Region, l.Side)));
            }
        }
    }
}
