using System.Text.Json;
using Pcrl.Train.Clues;
using Xunit.Abstractions;

namespace Pcrl.Train.Tests.Clues;

public sealed class FindingsTextTests(ITestOutputHelper output)
{
    private static readonly ClueVocabulary Vocabulary = ClueVocabulary.Default;

    private static Dictionary<string, string> Clues(string findings) =>
        FindingsText.Clues(findings, Vocabulary).Entities.ToDictionary(e => e.Entity, e => e.Text);

    [Fact]
    public void The_vocabulary_is_the_authors()
    {
        Assert.Equal(8, Vocabulary.Layers.Count);
        Assert.Equal(26, Vocabulary.Entities.Count);
        Assert.Equal([2, 3], Vocabulary.LayersOf("第三脑室"));
        Assert.Equal("A CT image contain Semi-oval center", Vocabulary.PromptFor("半卵圆中心"));
    }

    [Fact]
    public void Clauses_of_an_entity_are_joined()
    {
        var clues = Clues("双侧额叶见斑片状低密度影，边界不清；左侧丘脑点状低密度影。侧脑室增宽，脑沟增宽。左侧额叶另见高密度影。");
        Assert.Equal("双侧额叶见斑片状低密度影；左侧额叶另见高密度影", clues["额叶"]);
        Assert.Equal("左侧丘脑点状低密度影", clues["丘脑"]);
        Assert.Equal("侧脑室增宽", clues["侧脑室"]);
        Assert.Equal(["丘脑", "侧脑室", "脑沟", "额叶"], clues.Keys.Order(StringComparer.Ordinal));
    }

    [Theory]
    [InlineData("双侧侧脑室扩大", "侧脑室")]
    [InlineData("第三脑室、侧脑室及脑室旁", "侧脑室|第三脑室")]
    [InlineData("右侧颞枕叶低密度影", "颞枕叶")]
    [InlineData("小脑半球及小脑幕", "小脑半球|小脑幕")]
    [InlineData("小脑见低密度影", "小脑")]
    [InlineData("各脑室形态正常", "脑室")]
    [InlineData("颅板下新月形高密度影", "")]
    public void The_longest_entity_wins_inside_a_clause(string clause, string expected) =>
        Assert.Equal(
            expected.Split('|', StringSplitOptions.RemoveEmptyEntries).Order(StringComparer.Ordinal),
            Vocabulary.InClause(clause).Select(e => Vocabulary.Entities[e]).Order(StringComparer.Ordinal));

    [Fact]
    public void A_short_entity_counts_where_its_own_clause_names_it() =>
        Assert.Equal("脑室轻度扩大", Clues("侧脑室旁低密度影，脑室轻度扩大。")["脑室"]);

    [Theory]
    [InlineData("头颅CT平扫：脑千见低密度影。", "脑干见低密度影。")]
    [InlineData("若侧颢叶、左侧题叶低密度影。", "右侧颞叶、左侧颞叶低密度影。")]
    [InlineData("脑沟增宽，胸廓对称，肺纹理增多。", "脑沟增宽。")]
    [InlineData("胸廓对称。脑沟增宽。", "脑沟增宽。")]
    [InlineData("半卵圆中心低密度影", "半卵圆中心低密度影。")]
    [InlineData("左側額葉,顳葉低密度影; 中線居中.", "左侧额叶，颞叶低密度影；中线居中。")]
    [InlineData("大小约４．４×3.2ｃｍ，ＣＴ值约60HU。", "大小约4.4×3.2cm，CT值约60HU。")]
    [InlineData(" 脑沟\u3000增宽。\r\n中线居中。。；", "脑沟增宽。中线居中。")]
    [InlineData("", "")]
    [InlineData("。，；\n ", "")]
    [InlineData("肺纹理增多。", "")]
    public void Text_is_cleaned(string findings, string expected) => Assert.Equal(expected, FindingsText.Clean(findings, Vocabulary));

    [Fact]
    public void Empty_findings_give_no_clues()
    {
        var clues = FindingsText.Clues("  \n", Vocabulary);
        Assert.Equal("", clues.Theme);
        Assert.Empty(clues.Entities);
    }

    [SkippableFact]
    public void Counts_over_the_real_reports()
    {
        string? data = Environment.GetEnvironmentVariable("PCRL_DATA");
        string folder = Path.Combine(data ?? "", "ctrg-reports");
        Skip.IfNot(Directory.Exists(folder), "PCRL_DATA holds no ctrg-reports");
        var counts = Vocabulary.Entities.ToDictionary(e => e, _ => 0);
        int reports = 0, without = 0;
        foreach (string file in new[] { "train.json", "validation.json" })
        {
            using var json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, file)));
            foreach (var report in json.RootElement.EnumerateArray())
            {
                var clues = FindingsText.Clues(report.GetProperty("findings").GetString()!, Vocabulary);
                reports++;
                without += clues.Entities.Count == 0 ? 1 : 0;
                foreach (var clue in clues.Entities)
                {
                    counts[clue.Entity]++;
                    Assert.Contains(clue.Entity, clue.Text, StringComparison.Ordinal);
                }
            }
        }
        output.WriteLine($"{reports} reports, {without} without any entity");
        foreach (var (entity, count) in counts.OrderByDescending(c => c.Value))
            output.WriteLine($"{count,5}  {entity}  {Vocabulary.English[entity]}");
        Assert.True(reports > 4000);
        Assert.True(counts["中线"] > reports / 2);
        Assert.True(counts["中脑"] < 100 && counts["颞枕叶"] < 200, "the rarest entities");
    }
}
