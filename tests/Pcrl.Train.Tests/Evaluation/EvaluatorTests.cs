using System.Text.Json;
using Pcrl.Runtime;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Tests.Evaluation;

public sealed class EvaluatorTests
{
    private static readonly string[] Reports =
    [
        "双侧基底节区见低密度影，中线结构居中。", "左侧额叶见高密度影，周围无水肿。", "脑沟增宽，脑回变小。", "右侧小脑半球见片状低密度影。", "脑室扩大，中线结构左偏。",
    ];

    private static IReadOnlyList<ReportRecord> Records(params string[] texts) => [.. texts.Select((text, i) => new ReportRecord($"s{i}", [text]))];

    private static CasePairing Pair(IReadOnlyList<ReportRecord> references, IReadOnlyList<ReportRecord> system, IReadOnlyList<ReportRecord>? second = null) =>
        CasePairing.Match(("references", references), second is null ? [("system 0", system)] : [("system 0", system), ("system 1", second)]);

    private static EvaluationResult Run(CasePairing cases, int resamples = 50, string[]? train = null) => Evaluator.Run(new EvaluationRequest
    {
        Cases = cases,
        SystemNames = [.. cases.Hypotheses.Select((_, i) => $"<system> {i}")],
        Tokenisations = [Tokenisation.Characters],
        Train = train,
        Resamples = resamples,
    });

    private static Score Of(SystemResult system, string name) => system.Scores.Single(score => score.Name == name);

    [Fact]
    public void Ids_are_matched_and_the_rest_is_listed()
    {
        var cases = Pair(Records("甲", "乙", "丙"), [new("s2", ["2"]), new("s0", ["0"]), new("x", ["?"])]);
        Assert.Equal(["s0", "s2"], cases.Ids);
        Assert.Equal(["0", "2"], cases.Hypotheses[0]);
        Assert.Equal("1 without hypothesis: s1; 1 without reference: x", cases.Mismatch);
    }

    [Fact]
    public void Repeated_references_are_several_references_and_repeated_hypotheses_are_refused()
    {
        Assert.Equal(["甲", "乙"], Pair([new("s0", ["甲"]), new("s0", ["乙"])], Records("甲")).References[0]);
        Assert.Contains("s0 comes twice", Assert.Throws<InputException>(() => Pair(Records("甲"), [new("s0", ["甲"]), new("s0", ["乙"])])).Message);
        Assert.Contains("2 hypotheses", Assert.Throws<InputException>(() => Pair(Records("甲"), [new("s0", ["甲", "乙"])])).Message);
        Assert.Contains("empty", Assert.Throws<InputException>(() => Pair(Records(" "), Records("甲"))).Message);
        Assert.Contains("shares no id", Assert.Throws<InputException>(() => Pair(Records("甲"), [new("other", ["甲"])])).Message);
    }

    [Fact]
    public void Ids_are_shown_short_and_without_control_characters()
    {
        string message = Assert.Throws<InputException>(() => Pair(Records("甲"), [new(new string('x', 100_000), ["甲"]), new("\u001b[2J", ["甲"])])).Message;
        Assert.InRange(message.Length, 80, 400);
        Assert.Contains("?[2J", message);
    }

    [Fact]
    public void A_perfect_system_is_perfect_and_a_copy_of_it_does_not_differ()
    {
        var result = Run(Pair(Records(Reports), Records(Reports), Records(Reports)));
        foreach (string name in (string[])["CE-F1-micro", "CE-F1-macro", "Findings-F1-micro", "METEOR-raw", "ROUGE-L"])
            Assert.Equal(1, Of(result.Systems[0], name).Value, 9);
        Assert.Equal(1, Of(result.Systems[0], "BLEU-4").Value, 6);
        Assert.All(result.Systems[1].Scores, score => Assert.Equal((0, 1), (score.Difference!.Value.Value, score.Difference!.Value.P)));
        Assert.All(result.Systems[0].Scores, score => Assert.Null(score.Difference));
    }

    [Fact]
    public void Intervals_enclose_means_repeat_with_the_seed_and_a_clear_difference_is_significant()
    {
        string[] references = [.. Enumerable.Range(0, 40).Select(i => Reports[i % 5])];
        string[] worse = [.. references.Select((text, i) => i % 4 == 0 ? text : "未见异常。")];
        var cases = Pair(Records(references), Records(references), Records(worse));
        var score = Of(Run(cases, 200).Systems[1], "ROUGE-L");
        Assert.InRange(score.Value, score.Interval!.Value.Low, score.Interval!.Value.High);
        Assert.True(score.Interval!.Value.Low < score.Interval!.Value.High);
        Assert.Equal(1 / 201.0, score.Difference!.Value.P, 9);
        Assert.True(score.Difference!.Value.Interval.High < 0);
        Assert.Equal(score, Of(Run(cases, 200).Systems[1], "ROUGE-L"));
    }

    [Fact]
    public void The_baselines_copy_from_the_training_set()
    {
        string[] train = ["双侧基底节区见低密度影。", "脑沟增宽，脑回变小。", "脑沟增宽，脑回变小。", "左侧额叶见高密度影。"];
        var result = Run(Pair(Records(Reports), Records(Reports)), 0, train);
        var byName = result.Systems.ToDictionary(system => system.Name);
        Assert.All(byName[Evaluator.MostFrequentName].Hypotheses, text => Assert.Equal("脑沟增宽，脑回变小。", text));
        Assert.Equal(0.2, byName[Evaluator.MostFrequentName].Distinct);
        Assert.Equal(["双侧基底节区见低密度影。", "左侧额叶见高密度影。", "脑沟增宽，脑回变小。"], byName[Evaluator.OracleName].Hypotheses.Take(3));
        Assert.Equal(byName[Evaluator.OracleName].Hypotheses, byName[Evaluator.NearestName].Hypotheses); // the system says what the references say
        Assert.Equal(1, byName[Evaluator.NearestName].Copied);
        Assert.Equal(0.2, result.Systems[0].Copied);
        Assert.Equal(0.2, result.ReferenceCopied);
        Assert.Null(result.Systems[0].Scores[0].Interval);
    }

    [Fact]
    public void The_page_escapes_everything_and_names_what_is_missed_and_invented()
    {
        string page = Write(".html", "<script>alert(1)</script>左侧额叶见高密度影&\u0007", "右侧额叶见高密度影", (result, path) => ResultPage.Write(result, Tokenisation.Characters, path));
        Assert.DoesNotContain("<script", page, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain("<system>", page);
        Assert.DoesNotContain('\u0007', page);
        Assert.DoesNotContain("http://", page);
        Assert.DoesNotContain("https://", page);
        Assert.Contains("Missed findings: right 额叶: high density", page);
        Assert.Contains("Invented findings: left 额叶: high density", page);
        Assert.Contains("<span class=\"both\">额叶</span>", page);
        Assert.Contains("<span class=\"lone\">右</span>", page);
        Assert.Contains("name=\"viewport\"", page);
        Assert.Contains("<p lang=\"zh\">", page);
    }

    [Fact]
    public void Json_and_csv_hold_the_same_scores()
    {
        string[] csv = Write(".csv", "左侧额叶见高密度影", "右侧额叶见高密度影", ResultFiles.WriteCsv).Split("\r\n");
        using var json = JsonDocument.Parse(Write(".json", "左侧额叶见高密度影", "右侧额叶见高密度影", ResultFiles.WriteJson));
        var system = json.RootElement.GetProperty("systems")[0];
        var bleu = system.GetProperty("scores").EnumerateArray().Single(score => score.GetProperty("metric").GetString() == "BLEU-1");
        Assert.Contains(csv, row => row.StartsWith($"<system> 0,BLEU-1,char,{bleu.GetProperty("value").GetRawText()},", StringComparison.Ordinal));
        Assert.Equal("right 额叶: high density", system.GetProperty("per_case")[0].GetProperty("missed_findings")[0].GetString());
    }

    [Fact]
    public void The_table_shows_every_score_of_every_system()
    {
        var output = new StringWriter();
        ResultTable.Write(Run(Pair(Records(Reports), Records(Reports)), 10, Reports), output);
        string table = output.ToString();
        Assert.Contains("5 cases", table);
        Assert.Contains(Evaluator.OracleName, table);
        Assert.Contains("BLEU-4", table);
        Assert.Contains("Frontal lobe", table);
    }

    [Fact]
    public void Cancelling_stops_it()
    {
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        var request = new EvaluationRequest { Cases = Pair(Records("甲"), Records("甲")), SystemNames = ["a"], Tokenisations = [Tokenisation.Characters] };
        Assert.ThrowsAny<OperationCanceledException>(() => Evaluator.Run(request, cancelled.Token));
    }

    private static string Write(string extension, string hypothesis, string reference, Action<EvaluationResult, string> write)
    {
        string path = Path.Combine(Path.GetTempPath(), Path.GetRandomFileName() + extension);
        try
        {
            write(Run(Pair(Records(reference), Records(hypothesis)), 5), path);
            return File.ReadAllText(path);
        }
        finally
        {
            File.Delete(path);
        }
    }
}
