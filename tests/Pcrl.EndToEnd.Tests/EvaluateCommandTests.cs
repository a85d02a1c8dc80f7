using System.Text;
using System.Text.Json;

namespace Pcrl.EndToEnd.Tests;

/// <summary><c>pcrl-train evaluate</c> as a user calls it, also with what no evaluation can be made of.</summary>
public sealed class EvaluateCommandTests : IDisposable
{
    private const string References = """[{"id":1,"report":"双侧基底节区见低密度影。"},{"id":2,"report":"脑沟增宽。"},{"id":3,"report":"中线结构居中。"}]""";

    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-evaluate-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string At(string name) => Path.Combine(_folder, name);

    private string Put(string name, string content) => Put(name, Encoding.UTF8.GetBytes(content));

    private string Put(string name, byte[] content)
    {
        File.WriteAllBytes(At(name), content);
        return At(name);
    }

    private PcrlProcess Evaluate(string predictions, params string[] options) =>
        PcrlProcess.RunTool("pcrl-train", ["evaluate", predictions, Put("references.json", References), .. options]);

    [Fact]
    public void All_outputs_are_written_and_tokens_come_from_a_bundle()
    {
        var run = Evaluate(
            Put("system.csv", "\uFEFFid,report\r\n1,\r\n3,中线结构居中。\r\n2,脑沟增宽。\r\n"), "--train", Put("train.json", References), "--tokens", "jieba,llama",
            "--tokenizer", Repository.MiniBundle, "--resamples", "20", "--html", At("page.html"), "--json", At("all.json"), "--csv", At("scores.csv"));
        Assert.True(run.ExitCode == 0, run.Error);
        Assert.Contains("most frequent report", run.Output);
        Assert.Contains("nearest report", run.Output);
        using var json = JsonDocument.Parse(File.ReadAllBytes(At("all.json")));
        var scores = json.RootElement.GetProperty("systems")[0].GetProperty("scores").EnumerateArray();
        Assert.Contains(scores, s => s.TryGetProperty("tokens", out var tokens) && tokens.GetString() == "llama" && s.GetProperty("metric").GetString() == "BLEU-4");
        Assert.StartsWith("<!DOCTYPE html>", File.ReadAllText(At("page.html")));
        Assert.StartsWith("system,metric,tokens,value", File.ReadAllText(At("scores.csv")));
    }

    [Theory]
    [InlineData("""[{"id":1,"report":"x"},{"id":7,"report":"y"}]""", "2 without hypothesis: 2, 3; 1 without reference: 7")]
    [InlineData("""[{"id":1,"report":"x"},{"id":1,"report":"y"}]""", "id 1 comes twice")]
    [InlineData("not json", "line 1 is not JSON")]
    [InlineData("", "holds no reports")]
    public void What_does_not_fit_is_named(string predictions, string problem) => Evaluate(Put("system.json", predictions)).AssertOneLineError("system.json", problem);

    [Fact]
    public void Invalid_utf8_is_named_by_its_line() =>
        Evaluate(Put("system.jsonl", [.. """{"id":1,"report":"x"}"""u8, (byte)'\n', .. """{"id":2,"report":" """u8, 0xFF])).AssertOneLineError("line 2 is not valid UTF-8");

    [Theory]
    [InlineData("jsonl")]
    [InlineData("csv")]
    public void A_line_of_a_gigabyte_is_refused(string kind)
    {
        // A sparse file: zeros after its beginning, so the JSON ends at once and the CSV is one field without an end.
        using (var file = File.Create(At("system." + kind)))
        {
            file.Write(kind == "csv" ? "id,report\n1,"u8 : "[{\"id\":\"1\",\"report\":\""u8);
            file.SetLength(1L << 30);
        }
        Evaluate(At("system." + kind)).AssertOneLineError("system." + kind);
    }

    [Theory]
    [InlineData("/dev/null", "holds no reports")]
    [InlineData("/dev/zero", "not JSON")]
    [InlineData("/", "is a folder")]
    [InlineData("", "name is empty")]
    public void What_is_no_file_of_reports_is_refused(string path, string problem) => Evaluate(path).AssertOneLineError(problem);

    [Theory]
    [InlineData("--tokens", "words", "none of jieba")]
    [InlineData("--tokens", "llama", "needs --tokenizer")]
    [InlineData("--user-dictionary", "/dev/zero", "64 MB")]
    [InlineData("--user-dictionary", "", "name is empty")]
    [InlineData("--train", "/dev/null", "holds no reports")]
    [InlineData("--resamples", "-1", "between")]
    [InlineData("--html", "/dev/full", "device")]
    [InlineData("--csv", "", "empty")]
    public void Options_that_cannot_be_met(string option, string value, string problem) =>
        Evaluate(Put("system.json", References), option, value).AssertOneLineError(problem);

    [Fact]
    public void An_output_never_replaces_an_input_or_another_output()
    {
        string system = Put("system.json", References);
        Evaluate(system, "--json", system).AssertOneLineError("is an input");
        Evaluate(system, "--json", At("out"), "--html", At("out")).AssertOneLineError("another output");
        string words = Put("words.txt", "脑实质 10\n");
        Evaluate(system, "--user-dictionary", words, "--csv", words).AssertOneLineError("is an input");
        File.CreateSymbolicLink(At("link.txt"), words);
        Evaluate(system, "--user-dictionary", At("link.txt"), "--csv", words).AssertOneLineError("is an input");
        Assert.Equal(References, File.ReadAllText(system));
    }
}
