using Pcrl.Train.Evaluation;
using Pcrl.Train.Fitting;

namespace Pcrl.Train.Tests.Evaluation;

public sealed class HaemorrhageScoreTests
{
    private const string Blood = "颅板下见梭形高密度影。", None = "颅内未见积血。", Calcium = "左侧基底节区见结节状钙化影。";

    private static HaemorrhageCase Case(bool bleeding, double probability, string report, bool ended = true, double trunk = 0) =>
        new("1", 0, bleeding, probability, trunk, report, ended);

    [Fact]
    public void Scores_by_hand()
    {
        var score = HaemorrhageScore.Of(
            [
                Case(true, 0.9, Blood, trunk: 2), Case(true, 0.5, None, trunk: 1), Case(false, 0.5, Calcium), Case(false, 0.6, Blood, ended: false, trunk: 1.5),
                Case(false, 0.1, None, trunk: -1),
            ]);
        Assert.Equal((3 + 0.5 + 1) / 6, score.Auc, 12); // 0.9 beats three, 0.5 beats one and ties with one
        Assert.Equal(5.0 / 6, score.TrunkAuc, 12); // 1 does not beat 1.5
        Assert.Equal(0.5, score.Sensitivity);
        Assert.Equal(2.0 / 3, score.Specificity, 12);
        Assert.Equal((0.5 + 2.0 / 3) / 2, score.BalancedAccuracy, 12);
        Assert.Equal(0.8, score.Ended, 12);
        Assert.True(score.AucInterval.Low <= score.Auc && score.Auc <= score.AucInterval.High);
    }

    [Fact]
    public void One_kind_of_scan_has_no_area()
    {
        Assert.True(double.IsNaN(HaemorrhageScore.Of([Case(false, 0.1, None)]).Auc));
    }

    [Theory]
    [InlineData(58, 25, 5)]
    [InlineData(7, 2, 3)]
    public void Folds_share_the_bleeding_scans(int scans, int bleeding, int folds)
    {
        bool[] labels = [.. Enumerable.Range(0, scans).Select(i => i < bleeding)];
        int[] foldOf = CrossValidation.Folds(labels, folds, seed: 1);
        Assert.Equal(foldOf, CrossValidation.Folds(labels, folds, seed: 1));
        foreach (bool label in (bool[])[true, false])
        {
            int[] sizes = [.. Enumerable.Range(0, folds).Select(f => foldOf.Where((fold, i) => fold == f && labels[i] == label).Count())];
            Assert.True(sizes.Max() - sizes.Min() <= 1);
        }
    }
}
