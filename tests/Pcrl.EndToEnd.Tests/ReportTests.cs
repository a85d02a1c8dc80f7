using System.Text.Json;

namespace Pcrl.EndToEnd.Tests;

/// <summary>The main job on real scans: <c>pcrl report</c> with the embedded bundle.</summary>
public sealed class ReportTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-report-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static JsonElement Json(params string[] arguments)
    {
        var run = PcrlProcess.Run(["report", .. arguments, "--json"]);
        Assert.True(run.ExitCode == 0, run.Error);
        return JsonDocument.Parse(run.Output).RootElement;
    }

    [Theory]
    [InlineData("ge-head-ct")]
    [InlineData("ct-ich-050")]
    [InlineData("ct-ich-122")]
    public void Every_sample_gives_a_marked_draft(string sample)
    {
        var run = PcrlProcess.Run("report", Repository.Sample(sample));
        Assert.True(run.ExitCode == 0, run.Error);
        string[] lines = run.Output.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        Assert.Contains("Unverified AI draft", lines[0]);
        Assert.Matches("^.{6,}。$", string.Concat(lines[1..])); // whole sentences; of a real scan perhaps one, on bleeding alone
    }

    [Fact]
    public void Json_tells_everything_about_the_report()
    {
        var report = Json(Repository.Sample("ge-head-ct"), "--seed", "7");
        Assert.NotEmpty(report.GetProperty("report").GetString()!);
        Assert.True(report.GetProperty("draft").GetBoolean());
        Assert.Equal(7u, report.GetProperty("seed").GetUInt64());
        Assert.Equal("mini", report.GetProperty("model").GetString());
        Assert.Equal(48, report.GetProperty("visual_tokens").GetInt32());
        Assert.True(report.GetProperty("prompt_tokens").GetInt32() > 0);
        Assert.True(report.GetProperty("generated_tokens").GetInt32() > 0);
        var slices = report.GetProperty("slices").EnumerateArray().ToArray();
        Assert.Equal(Enumerable.Range(0, 24), slices.Select(s => s.GetProperty("index").GetInt32()));
        Assert.All(slices, s => Assert.Equal(s.GetProperty("index").GetInt32() / 3, s.GetProperty("layer").GetInt32()));
        Assert.All(slices, s => Assert.True(File.Exists(Path.Combine(Repository.Sample("ge-head-ct"), s.GetProperty("source").GetString()!))));
        foreach (string stage in (string[])["load", "read", "encode", "prefill", "decode", "total"])
            Assert.True(report.GetProperty("timings_ms").GetProperty(stage).GetDouble() > 0, stage);
    }

    [Fact]
    public void The_same_seed_gives_the_same_text_and_greedy_needs_none()
    {
        string sample = Repository.Sample("ct-ich-050");
        string Text(params string[] arguments) => Json([sample, .. arguments]).GetProperty("report").GetString()!;
        Assert.Equal(Text("--seed", "3"), Text("--seed", "3"));
        Assert.Equal(Text("--temperature", "0", "--seed", "1"), Text("--temperature", "0", "--seed", "2"));
        Assert.NotEqual(1, Enumerable.Range(1, 5).Select(seed => Text("--temperature", "2", "--seed", $"{seed}")).Distinct().Count());
    }

    [Fact]
    public void Different_scans_are_not_all_given_one_report()
    {
        string[] samples = ["ge-head-ct", "ct-ich-050", "ct-ich-122"];
        Assert.NotEqual(1, samples.Select(s => Json(Repository.Sample(s), "--temperature", "0").GetProperty("report").GetString()).Distinct().Count());
    }

    [Fact]
    public void A_report_goes_to_a_file_whole()
    {
        string path = Path.Combine(_folder, "report.json");
        var run = PcrlProcess.Run("report", Repository.Sample("ct-ich-122"), "--json", "-o", path);
        Assert.True(run.ExitCode == 0, run.Error);
        Assert.Equal("", run.Output);
        Assert.True(JsonDocument.Parse(File.ReadAllBytes(path)).RootElement.GetProperty("draft").GetBoolean());
        Assert.Equal([path], Directory.GetFiles(_folder));
    }

    [Fact]
    public void Speculation_does_not_change_the_text()
    {
        string sample = Repository.Sample("ge-head-ct");
        JsonElement drafted = Json(sample, "--seed", "5"), plain = Json(sample, "--seed", "5", "--no-speculation");
        Assert.Equal(plain.GetProperty("report").GetString(), drafted.GetProperty("report").GetString());
        Assert.True(plain.GetProperty("steps").GetInt32() >= plain.GetProperty("generated_tokens").GetInt32());
    }

    [Fact]
    public void A_folder_of_studies_gives_the_reports_that_each_gives_alone()
    {
        string damaged = Path.Combine(_folder, "damaged");
        Directory.CreateDirectory(damaged);
        File.WriteAllBytes(Path.Combine(damaged, "1.png"), [0x89, (byte)'P', (byte)'N', (byte)'G', 0]);
        foreach (string sample in (string[])["ct-ich-050", "ct-ich-122"])
            Directory.CreateSymbolicLink(Path.Combine(_folder, sample), Repository.Sample(sample));
        var run = PcrlProcess.Run("report", _folder, "--json", "--temperature", "0");
        Assert.Equal(1, run.ExitCode);
        Assert.Single(run.Error.Split('\n'), line => line.StartsWith(damaged, StringComparison.Ordinal) && line.LastIndexOf(damaged, StringComparison.Ordinal) == 0);
        Assert.Contains("2 reports, 1 studies failed", run.Error);
        Assert.Matches(@"(?m)^1/3 studies, \d+\.\d studies/minute, \d:\d\d:\d\d left$", run.Error); // the first at once, then one in ten seconds
        var reports = JsonDocument.Parse(run.Output).RootElement.EnumerateArray().ToArray();
        Assert.Equal(["ct-ich-050", "ct-ich-122"], reports.Select(r => Path.GetFileName(r.GetProperty("study").GetString())));
        foreach (var report in reports)
        {
            string sample = Path.GetFileName(report.GetProperty("study").GetString())!;
            Assert.Equal(Json(Repository.Sample(sample), "--temperature", "0").GetProperty("report").GetString(), report.GetProperty("report").GetString());
        }
    }

    [SkippableTheory]
    [InlineData("cuda")]
    [InlineData("vulkan")]
    public void Asking_for_a_gpu_that_is_not_there_falls_back_with_a_warning(string device)
    {
        Skip.If(Directory.Exists("/dev/dri") || File.Exists("/dev/nvidia0"), "this machine has a GPU");
        var run = PcrlProcess.Run("report", Repository.Sample("ct-ich-122"), "--device", device, "--threads", "1");
        Assert.True(run.ExitCode == 0, run.Error);
        string line = Assert.Single(run.Error.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.Contains($"llama.cpp on cpu (warning: {device} was asked for, but ", line);
    }

    [Fact]
    public void A_backend_of_llama_cpp_that_is_damaged_is_replaced_by_the_cpu()
    {
        string folder = Path.Combine(AppContext.BaseDirectory, "native", "llama", "vulkan"), library = Path.Combine(folder, "libggml-vulkan.so");
        bool isBuilt = Directory.Exists(folder);
        if (isBuilt)
            return; // the real one lies there
        Directory.CreateDirectory(folder);
        try
        {
            File.WriteAllText(library, "no library");
            var run = PcrlProcess.Run("report", Repository.Sample("ct-ich-122"), "--device", "vulkan", "--threads", "1");
            Assert.True(run.ExitCode == 0, run.Error);
            Assert.Contains("llama.cpp on cpu (warning: vulkan was asked for, but " + library, run.Error);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void Inspect_writes_a_contact_sheet()
    {
        string path = Path.Combine(_folder, "sheet.png");
        var run = PcrlProcess.Run("inspect", Repository.Sample("ge-head-ct"), "-o", path);
        Assert.True(run.ExitCode == 0, run.Error);
        Assert.Equal([0x89, (byte)'P', (byte)'N', (byte)'G'], File.ReadAllBytes(path)[..4]);
        Assert.Equal(24, run.Output.Split('\n').Count(line => line.Contains(".dcm")));
    }
}
