using Pcrl.Train.Clues;
using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Tests.Clues;

public class PhantomCluesTests
{
    [Fact]
    public void A_lesion_is_the_mask_of_its_region_where_it_is_largest_and_organs_stand_at_their_levels()
    {
        int lesions = 0;
        for (ulong seed = 1; seed <= 30; seed++)
        {
            var study = TrainingStudy.FromPhantom(seed, new PhantomOptions { ImageSize = 64, Difficulty = 0 }, 32, 0);
            var clues = new PhantomClues(study.Raster!).Of(study.Findings[0], ClueVocabulary.Default, organs: true);
            Assert.Equal(clues.Select(c => c.Slice).Distinct().Order(), clues.Select(c => c.Slice));
            Assert.All(clues, c => Assert.True(c.Mask.Area > 0 && c.Text.Length > 0));
            foreach (var lesion in FindingFacts.Parse(study.Findings[0]).Lesions.Where(l => l.Kind is LesionKind.Haemorrhage or LesionKind.Infarct))
            {
                // Some slice has the clause that names the region, and its mask covers lesion cells of that slice.
                string name = PhantomText.NameOf(lesion.Region);
                bool Covers(SliceClue clue)
                {
                    bool[] mask = clue.Mask.Decode();
                    var cells = study.Raster!.Lesions.AsSpan(clue.Slice * mask.Length, mask.Length).ToArray();
                    return cells.Where((mark, i) => mask[i] && mark > 0).Any();
                }
                Assert.Contains(clues, c => c.Text.Contains(name) && Covers(c));
                lesions++;
            }
        }
        Assert.True(lesions > 5);
    }

    [Fact]
    public void Nearest_takes_corners_and_coverage_keeps_what_is_small()
    {
        var mask = new bool[64];
        mask[0] = mask[63] = true; // of [8, 8]
        var runs = RunLengthMask.Encode(mask, 8, 8);
        Assert.Equal([1, 0, 0, 0], MaskGrid.Resize(runs, 2, "nearest"));
        Assert.Equal([1, 0, 0, 1], MaskGrid.Resize(runs, 2, "coverage")); // neither cell has an eighth: the fullest stay
        mask[1] = true;
        Assert.Equal([1, 0, 0, 0], MaskGrid.Resize(RunLengthMask.Encode(mask, 8, 8), 2, "coverage"));
        Assert.Equal([0, 0, 0, 0], MaskGrid.Resize(RunLengthMask.Encode(new bool[64], 8, 8), 2, "coverage"));
    }

    [Fact]
    public void One_wording_says_the_same_of_the_same_facts()
    {
        var texts = Enumerable.Range(0, 60).Select(i => TrainingStudy.FromPhantom((ulong)i, new PhantomOptions { ImageSize = 64 }, 32, 0).Findings).ToList();
        Assert.All(texts, t => Assert.Single(t));
        var healthy = texts.Select(t => t[0]).Where(t => FindingFacts.Parse(t) is { Lesions.Count: 0, Atrophy: false, VentriclesEnlarged: false, WhiteMatter: false, Sinusitis: null }).ToList();
        Assert.True(healthy.Count > 1);
        Assert.Single(healthy.Distinct());
    }
}
