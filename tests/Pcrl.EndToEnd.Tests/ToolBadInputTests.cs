namespace Pcrl.EndToEnd.Tests;

/// <summary>Wrong command lines and inputs of all four tools: one line that says what is wrong, exit code 1, nothing written.</summary>
public sealed class ToolBadInputTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-tools-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("'reprot' is not a command", "pcrl", "reprot")]
    [InlineData("'fti' is not a command", "pcrl-train", "fti", "configs/mini.json")]
    [InlineData("'7' not recognized", "pcrl-bench", "kernels", "--device", "7")]
    [InlineData("'7' not recognized", "pcrl-bench", "gpu", "--device", "7")]
    [InlineData("--filter matches the name of no case", "pcrl-bench", "kernels", "--filter", "nothing is called so")]
    [InlineData("--slices must be 1 to 1000", "pcrl-bench", "encoder", "--slices", "2000000000")]
    [InlineData("/nowhere: no such folder", "pcrl-bench", "study", "--bundle", "/nowhere")]
    [InlineData("/nowhere: no such file or folder", "pcrl-bench", "study", "/nowhere")]
    [InlineData("/: is a folder, where a file is wanted", "pcrl-train", "fit", "/")]
    [InlineData("/: is a folder, where a file is wanted", "pcrl-convert", "phrases", "/", "bundle")]
    [InlineData("'7' not recognized", "pcrl-convert", "llm", "/", "out.gguf", "--trained-on", "7")]
    [InlineData("'-1' not recognized", "pcrl-convert", "llm", "/", "out.gguf", "--merge-onto", "-1")]
    [InlineData("--merge-onto: counts only with --llm", "pcrl-convert", "bundle", "/", "bundle", "--merge-onto", "Nf4")]
    [InlineData("/dev/null: is a file, where a folder is wanted", "pcrl-convert", "llm", "/dev/null", "out.gguf")]
    [InlineData("/dev/null: is a file, where a folder is wanted", "pcrl", "report", "/", "--bundle", "/dev/null")]
    [InlineData("/nowhere: no such file or folder", "pcrl-train", "score", "/nowhere")]
    [InlineData("/nowhere: there is no such file", "pcrl-train", "prepare", "/nowhere")]
    [InlineData("/nowhere: no such file or folder", "pcrl-train", "prepare", "phantoms:1@5", "--sam", "/nowhere")]
    [InlineData("/nowhere: no such file or folder", "pcrl-train", "prepare", "phantoms:1@5", "--scorer", "/nowhere")]
    [InlineData("phantoms:COUNT@SEED", "pcrl-train", "prepare", "phantoms:2000000000")]
    public void One_line_says_what_is_wrong(string problem, string tool, params string[] arguments) => PcrlProcess.RunTool(tool, arguments).AssertFailure(problem);

    [Theory]
    [InlineData("holds no findings", new byte[0])]
    [InlineData("holds no findings", new byte[] { 10, 10 })]
    [InlineData("is not UTF-8", new byte[] { 0xFF, 0xFE, 0xFD })]
    public void Phrases_that_are_none_leave_the_bundle_as_it_was(string problem, byte[] text)
    {
        string bundle = Path.Combine(_folder, "bundle"), findings = Path.Combine(_folder, "findings.txt");
        Directory.CreateDirectory(bundle);
        foreach (string file in Directory.GetFiles(Repository.MiniBundle))
            File.Copy(file, Path.Combine(bundle, Path.GetFileName(file)));
        File.WriteAllBytes(findings, text);
        PcrlProcess.Convert("phrases", findings, bundle).AssertOneLineError("findings.txt", problem);
        foreach (string file in (string[])["pcrl.json", "phrases.txt"])
            Assert.Equal(File.ReadAllBytes(Path.Combine(Repository.MiniBundle, file)), File.ReadAllBytes(Path.Combine(bundle, file)));
    }

    [Fact]
    public void Scans_that_are_not_there_are_missed_before_anything_is_written()
    {
        string run = Path.Combine(_folder, "run");
        var result = PcrlProcess.RunTool("pcrl-train", "mini", "--config", Path.Combine(Repository.Root, "configs", "mini.json"), "--out", run, "--ct-ich", Path.Combine(_folder, "nope"));
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("nope/labels.csv: there is no such file", result.Error);
        Assert.False(Directory.Exists(run));
    }

    [Fact]
    public void Subfolders_that_are_no_studies_are_counted()
    {
        foreach (string sample in (string[])["ct-ich-050", "ct-ich-122"])
            Directory.CreateSymbolicLink(Path.Combine(_folder, sample), Repository.Sample(sample));
        Directory.CreateDirectory(Path.Combine(_folder, "notes"));
        Directory.CreateDirectory(Path.Combine(_folder, "empty"));
        var run = PcrlProcess.Run("report", _folder, "--threads", "1");
        Assert.True(run.ExitCode == 0, run.Error);
        Assert.Contains($"{_folder}: subfolders passed over for want of a readable image: 2\n", run.Error);
        Assert.Contains("2 reports, 0 studies failed", run.Error);
        Assert.DoesNotContain("left", run.Error); // the texts on the terminal are progress
    }
}
