using Pcrl.Train.Clues;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Tests.Evaluation;

/// <summary>The examples of docs/evaluation.md, and more of their kind.</summary>
public sealed class ClinicalTests
{
    [Theory]
    [InlineData("双侧侧脑室扩大", "侧脑室")]
    [InlineData("脑室扩大，双侧侧脑室受压", "侧脑室 脑室")]
    [InlineData("左侧小脑半球及小脑幕密度增高。小脑未见异常", "小脑 小脑半球 小脑幕")]
    [InlineData("颅骨骨质未见异常", "")]
    public void Entities_inside_longer_ones_of_the_clause_do_not_count(string text, string expected)
    {
        var vocabulary = ClueVocabulary.Default;
        Assert.Equal(26, vocabulary.Entities.Count);
        Assert.Equal(expected.Split(' ', StringSplitOptions.RemoveEmptyEntries).Order(), vocabulary.InText(text).Select(e => vocabulary.Entities[e]).Order());
    }

    [Theory]
    [InlineData("左侧额叶、顶叶见片状低密度影", "left 额叶: low density; left 顶叶: low density")]
    [InlineData("左侧额叶及右侧颞叶见低密度影", "left 额叶: low density; right 颞叶: low density")]
    [InlineData("双侧侧脑室扩大", "left 侧脑室: widening; right 侧脑室: widening")]
    [InlineData("两侧脑室旁见斑点状低密度影", "left 侧脑室: low density; right 侧脑室: low density")]
    [InlineData("侧脑室未见明显扩大", "")]
    [InlineData("脑沟、脑池、蛛网膜下腔无增宽，脑回变小", "脑回: narrowing")]
    [InlineData("右侧丘脑见高密度影，周围无水肿", "right 丘脑: high density")]
    [InlineData("中线结构居中", "")]
    [InlineData("中线结构向左侧移位", "left 中线: shift")]
    [InlineData("右侧侧脑室受压，中线结构左偏", "right 侧脑室: narrowing; left 中线: shift")]
    [InlineData("左侧额叶软化灶及右侧枕叶高密度影", "left 额叶: fluid-like defect; right 枕叶: high density")]
    [InlineData("高密度影位于左侧基底节区", "left 基底节区: high density")]
    [InlineData("脑沟变窄密度增高", "脑沟: high density; 脑沟: narrowing")]
    [InlineData("见片状低密度影", "")]
    public void Findings_are_read_with_side_kind_and_negation(string text, string expected)
    {
        var parser = FindingParser.Default;
        Assert.Equal(expected.Split("; ", StringSplitOptions.RemoveEmptyEntries).Order(StringComparer.Ordinal), parser.Parse(text).Select(parser.Describe).Order(StringComparer.Ordinal));
    }

    [Fact]
    public void Rates_are_those_of_the_counts()
    {
        // Entities: right 额叶 and 脑沟, invented 颞叶, missed 枕叶. Findings: the side of 额叶 is wrong, 脑沟 is right.
        var entities = ClinicalEfficacy.Entities(["右侧额叶低密度影，颞叶正常，脑沟增宽"], [["左侧额叶低密度影，枕叶正常，脑沟增宽"]]);
        Assert.Equal([2 / 3.0, 2 / 3.0, 2 / 3.0, 0.5, 0.5, 0.5], entities.Total());
        var findings = ClinicalEfficacy.Findings(["右侧额叶低密度影，颞叶正常，脑沟增宽"], [["左侧额叶低密度影，枕叶正常，脑沟增宽"]]);
        Assert.Equal([0.5, 0.5, 0.5, 0.5, 0.5, 0.5], findings.Total());
    }

    [Fact]
    public void Nothing_said_scores_nothing_and_never_NaN()
    {
        var measure = ClinicalEfficacy.Findings(["", "脑沟增宽"], [["脑沟增宽"], [""]]);
        Assert.All(measure.Total(), score => Assert.Equal(0, score));
        Assert.All(ClinicalEfficacy.Entities([""], [["正常"]]).Total(), score => Assert.Equal(0, score));
    }

    [Fact]
    public void Any_reference_may_name_an_entity()
    {
        var measure = ClinicalEfficacy.Entities(["额叶"], [["额叶", "枕叶"]]);
        Assert.Equal([1, 0.5], measure.Total()[..2]);
    }
}
