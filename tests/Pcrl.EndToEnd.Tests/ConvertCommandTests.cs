using System.Diagnostics;
using Pcrl.Parity.Tests;

namespace Pcrl.EndToEnd.Tests;

/// <summary><c>pcrl-convert</c> as a user calls it, killed and short of disk.</summary>
public sealed class ConvertCommandTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-convert-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string At(string name) => Path.Combine(_folder, name);

    [Fact]
    public void A_conversion_that_is_killed_again_and_again_ends_with_the_same_file()
    {
        string model = SmallLlm.SaveHuggingFace(At("model"), SmallLlm.Wide, shards: 2);
        var whole = PcrlProcess.Convert("llm", model, At("whole.gguf"), "--type", "Q8_0");
        Assert.True(whole.ExitCode == 0, whole.Error);
        Assert.Contains("\"top_token_agreement\":", whole.Output);

        var random = new Random(3);
        for (int round = 0; round < 3; round++)
        {
            using var killed = PcrlProcess.StartConvert("llm", model, At("killed.gguf"), "--type", "Q8_0");
            Thread.Sleep(random.Next(200, 1500));
            killed.Kill(entireProcessTree: true);
            killed.WaitForExit();
        }
        var last = PcrlProcess.Convert("llm", model, At("killed.gguf"), "--type", "Q8_0");
        Assert.True(last.ExitCode == 0, last.Error);
        Assert.Equal(File.ReadAllBytes(At("whole.gguf")), File.ReadAllBytes(At("killed.gguf")));
        Assert.Equal(["killed.gguf", "model", "whole.gguf"], Directory.GetFileSystemEntries(_folder).Select(Path.GetFileName).Order());
    }

    [Fact]
    public void Ctrl_C_leaves_nothing()
    {
        string model = SmallLlm.SaveHuggingFace(At("model"), SmallLlm.Wide with { VocabSize = 32768 });
        using var process = PcrlProcess.StartInterruptible("pcrl-convert", "llm", model, At("out.gguf"), "--type", "Q8_0");
        while (!process.HasExited && !File.Exists(At("out.gguf.partial")))
            Thread.Sleep(1);
        PcrlProcess.Signal(process, 2);
        var interrupted = PcrlProcess.Finish(process);
        Assert.Equal(130, interrupted.ExitCode);
        Assert.Contains("interrupted", interrupted.Error);
        Assert.Equal(["model"], Directory.GetFileSystemEntries(_folder).Select(Path.GetFileName));
    }

    /// <summary>The limit on a file's size stops the writer as a full disk does, at four fifths of the file.</summary>
    [Fact]
    public void A_disk_that_is_full_at_80_percent_leaves_nothing()
    {
        string model = SmallLlm.SaveHuggingFace(At("model"), SmallLlm.Wide with { VocabSize = 8192 });
        long kilobytes = new FileInfo(Path.Combine(model, "model.safetensors")).Length / 1024 * 8 / 10;
        var start = new ProcessStartInfo("bash", ["-c", $"trap '' XFSZ; ulimit -f {kilobytes}; exec dotnet \"$@\"", "bash", PcrlProcess.ConvertPath, "llm", model, At("out.gguf")])
        {
            RedirectStandardOutput = true, RedirectStandardError = true,
        };
        using var process = Process.Start(start)!;
        var result = PcrlProcess.Finish(process);
        Assert.Equal(1, result.ExitCode);
        Assert.Contains("out.gguf: cannot be written", result.Error);
        Assert.Equal(["model"], Directory.GetFileSystemEntries(_folder).Select(Path.GetFileName));
    }

    [Fact]
    public void A_file_of_the_model_is_never_written_over()
    {
        string model = SmallLlm.SaveHuggingFace(At("model"), SmallLlm.Wide), weights = Path.Combine(model, "model.safetensors");
        byte[] before = File.ReadAllBytes(weights);
        PcrlProcess.Convert("llm", model, weights).AssertOneLineError("a file of the model itself");
        Assert.Equal(before, File.ReadAllBytes(weights));
    }

    [SkippableFact]
    public void A_disk_with_room_for_80_percent_is_refused_before_a_byte_is_written()
    {
        string model = SmallLlm.SaveHuggingFace(At("model"), SmallLlm.Wide with { VocabSize = 8192 }), disk = At("disk");
        long bytes = new FileInfo(Path.Combine(model, "model.safetensors")).Length * 8 / 10;
        Directory.CreateDirectory(disk);
        Skip.IfNot(PcrlProcess.Ends("mount", "-t", "tmpfs", "-o", $"size={bytes}", "pcrl-test", disk), "NOT CHECKED: only root may mount a small disk");
        try
        {
            var result = PcrlProcess.Convert("llm", model, Path.Combine(disk, "out.gguf"));
            Assert.Equal(1, result.ExitCode);
            Assert.Matches("out.gguf: cannot be written .*GB are needed, the disk has", result.Error);
            Assert.Empty(Directory.GetFileSystemEntries(disk));
        }
        finally
        {
            Assert.True(PcrlProcess.Ends("umount", disk));
        }
    }

    [Theory]
    [InlineData("no such folder", "llm", "/nowhere", "out.gguf")]
    [InlineData("Q3_K", "llm", "/nowhere", "out.gguf", "--type", "Q3_K")]
    [InlineData("everything", "llm", "/nowhere", "out.gguf", "--accept", "everything")]
    [InlineData("config.json", "bundle", "/nowhere", "out")]
    public void Wrong_commands_end_in_one_line(string expected, params string[] arguments) => PcrlProcess.Convert(arguments).AssertOneLineError(expected);
}
