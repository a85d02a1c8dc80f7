using System.Diagnostics;

namespace Pcrl.EndToEnd.Tests;

/// <summary>What goes wrong on a user's normal day: one clear line, exit code 1, nothing half-written.</summary>
public sealed class BadInputTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-bad-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string CopyOfBundle()
    {
        string copy = Path.Combine(_folder, "bundle");
        Directory.CreateDirectory(copy);
        foreach (string file in Directory.GetFiles(Repository.MiniBundle))
            File.Copy(file, Path.Combine(copy, Path.GetFileName(file)));
        return copy;
    }

    private static PcrlProcess Report(params string[] arguments) => PcrlProcess.Run(["report", .. arguments]);

    [Fact]
    public void No_such_study() => Report(Path.Combine(_folder, "nothing")).AssertOneLineError("nothing");

    [Fact]
    public void An_empty_folder() => Report(_folder).AssertOneLineError(_folder);

    [Fact]
    public void A_text_renamed_to_dcm()
    {
        File.WriteAllText(Path.Combine(_folder, "a.dcm"), "this is no DICOM file");
        Report(_folder).AssertOneLineError(_folder);
    }

    [Fact]
    public void Three_slices()
    {
        foreach (string name in (string[])["10.jpg", "11.jpg", "12.jpg"])
            File.Copy(Path.Combine(Repository.Sample("ct-ich-122"), name), Path.Combine(_folder, name));
        Report(_folder).AssertOneLineError("3");
    }

    [Fact]
    public void A_bundle_that_is_not_there() =>
        Report(Repository.Sample("ct-ich-122"), "--bundle", Path.Combine(_folder, "none")).AssertOneLineError("none");

    [Theory]
    [InlineData("pcrl.json")]
    [InlineData("visual.gguf")]
    [InlineData("llm.gguf")]
    public void A_missing_bundle_file(string name)
    {
        string bundle = CopyOfBundle();
        File.Delete(Path.Combine(bundle, name));
        Report(Repository.Sample("ct-ich-122"), "--bundle", bundle).AssertOneLineError(name, "missing");
    }

    [Theory]
    [InlineData("visual.gguf")]
    [InlineData("llm.gguf")]
    public void A_flipped_byte_in_a_bundle_file(string name)
    {
        string bundle = CopyOfBundle(), path = Path.Combine(bundle, name);
        byte[] bytes = File.ReadAllBytes(path);
        bytes[bytes.Length / 2] ^= 1;
        File.WriteAllBytes(path, bytes);
        Report(Repository.Sample("ct-ich-122"), "--bundle", bundle).AssertOneLineError(name, "SHA-256");
    }

    [Theory]
    [InlineData("\"format\": 1", "\"format\": 2", "format 2")]
    [InlineData("\"image_size\"", "\"imagesize\"", "not a valid manifest")]
    [InlineData("\"width\": ", "\"width\": 9999", "width")]
    [InlineData("{", "[", "not a valid manifest")]
    public void A_manifest_that_lies(string what, string by, string problem)
    {
        string bundle = CopyOfBundle(), path = Path.Combine(bundle, "pcrl.json");
        string text = File.ReadAllText(path);
        int at = text.IndexOf(what, StringComparison.Ordinal);
        Assert.True(at >= 0);
        File.WriteAllText(path, text[..at] + by + text[(at + what.Length)..]);
        Report(Repository.Sample("ct-ich-122"), "--bundle", bundle).AssertOneLineError("pcrl.json", problem);
    }

    [Theory]
    [InlineData("--temperature", "-1")]
    [InlineData("--temperature", "nan")]
    [InlineData("--top-p", "1.5")]
    [InlineData("--parallel", "0")]
    [InlineData("--parallel", "31")]
    [InlineData("--max-tokens", "0")]
    [InlineData("--threads", "-3")]
    [InlineData("--window", "wide")]
    [InlineData("--window", "40/0")]
    [InlineData("--seed", "-1")]
    [InlineData("--device", "7")]
    [InlineData("--device", "emulator")]
    [InlineData("-o", "")]
    [InlineData("-o", "/dev/full")]
    public void An_option_out_of_range(string option, string value) =>
        Report(Repository.Sample("ct-ich-122"), option, value).AssertOneLineError();

    [Fact]
    public void An_unknown_option() => Report(Repository.Sample("ct-ich-122"), "--nonsense", "1").AssertOneLineError("--nonsense");

    [Fact]
    public void A_full_disk_behind_stdout()
    {
        using var process = System.Diagnostics.Process.Start(new System.Diagnostics.ProcessStartInfo("sh")
        {
            ArgumentList = { "-c", $"dotnet '{Path.Combine(AppContext.BaseDirectory, "pcrl.dll")}' inspect '{Repository.Sample("ct-ich-122")}' > /dev/full" },
            RedirectStandardOutput = true, RedirectStandardError = true,
        })!;
        PcrlProcess.Finish(process).AssertOneLineError("output");
    }

    [Fact]
    public void A_place_that_cannot_be_written_to()
    {
        string path = Path.Combine(_folder, "no-such-folder", "report.txt");
        Report(Repository.Sample("ct-ich-122"), "-o", path).AssertOneLineError("report.txt");
        PcrlProcess.Run("inspect", Repository.Sample("ct-ich-122"), "-o", path).AssertFailure("report.txt");
    }

    /// <summary>A command that works without a pause hears Ctrl-C too.</summary>
    [Fact]
    public void Interrupted_while_it_never_waits()
    {
        using var process = PcrlProcess.StartInterruptible("pcrl-bench", "threads", "--rounds", "100000");
        Assert.True(SpinWait.SpinUntil(() => process.TotalProcessorTime > TimeSpan.FromSeconds(3), TimeSpan.FromMinutes(2)), "it does not work"); // long past its start
        PcrlProcess.Signal(process, 2);
        var ended = PcrlProcess.Finish(process);
        Assert.Equal(130, ended.ExitCode);
        Assert.Contains("interrupted", ended.Error);
    }

    /// <summary>A run of many studies loses no finished report, however it ends, and the same command goes on.</summary>
    [Theory]
    [InlineData(2)] // SIGINT, as Ctrl-C sends it
    [InlineData(9)]
    public void Interrupted_in_the_middle(int signal)
    {
        string studies = Directory.CreateDirectory(Path.Combine(_folder, "studies")).FullName;
        for (int i = 0; i < 60; i++) // seconds of work
            Directory.CreateSymbolicLink(Path.Combine(studies, $"{i}"), Repository.Sample("ct-ich-050"));
        string whole = Path.Combine(_folder, "whole.txt"), report = Path.Combine(_folder, "report.txt"), kept = report + ".partial";
        Assert.Equal(0, PcrlProcess.Run("report", studies, "-o", whole, "--temperature", "0").ExitCode);

        using var process = PcrlProcess.StartInterruptible("pcrl", "report", studies, "-o", report, "--temperature", "0");
        Assert.Contains("llama.cpp on", process.StandardError.ReadLine()); // it has begun
        while (!process.HasExited && new FileInfo(kept) is not { Exists: true, Length: > 5000 })
            Thread.Sleep(1);
        PcrlProcess.Signal(process, signal);
        var killed = PcrlProcess.Finish(process);
        Assert.Equal(128 + signal, killed.ExitCode);
        Assert.False(File.Exists(report));
        int lines = File.ReadLines(kept).Count();
        Assert.InRange(lines, 3, 60);
        if (signal == 2)
            Assert.Contains($"keeps {lines - 1} of 60", killed.Error);

        PcrlProcess.Run("report", studies, "-o", report).AssertOneLineError("report.txt.partial", "other options");
        string others = Directory.CreateDirectory(Path.Combine(_folder, "others")).FullName;
        for (int i = 0; i < 2; i++)
            Directory.CreateSymbolicLink(Path.Combine(others, $"{i}"), Repository.Sample("ct-ich-050"));
        PcrlProcess.Run("report", others, "-o", report, "--temperature", "0").AssertOneLineError("report.txt.partial", "other studies");
        var last = PcrlProcess.Run("report", studies, "-o", report, "--temperature", "0");
        Assert.Equal(0, last.ExitCode);
        Assert.Matches(@"goes on behind \d+ finished reports", last.Error);
        Assert.Equal(File.ReadAllText(whole), File.ReadAllText(report));
        Assert.Equal([report, whole], Directory.GetFiles(_folder).Order());
    }

    [Fact]
    public void A_file_where_finished_reports_would_be_kept()
    {
        string studies = Directory.CreateDirectory(Path.Combine(_folder, "studies")).FullName, report = Path.Combine(_folder, "report.txt");
        foreach (string name in (string[])["a", "b"])
            Directory.CreateSymbolicLink(Path.Combine(studies, name), Repository.Sample("ct-ich-050"));
        File.WriteAllText(report + ".partial", "mine\n");
        PcrlProcess.Run("report", studies, "-o", report).AssertOneLineError("report.txt.partial", "in the way");
        Assert.Equal("mine\n", File.ReadAllText(report + ".partial"));
        Assert.False(File.Exists(report));
    }
}
