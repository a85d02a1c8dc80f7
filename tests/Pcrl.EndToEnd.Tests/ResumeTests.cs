namespace Pcrl.EndToEnd.Tests;

/// <summary>A fit that is killed at any moment goes on to the bits it would have come to.</summary>
public sealed class ResumeTests : IDisposable
{
    private const int Kills = 3;

    private const string Config = """
        {
          "name": "tiny", "threads": 1,
          "phantoms": { "training": 4, "held_out": 2, "image_size": 64, "wordings": 2 },
          "tokenizer": { "tokens": 300 },
          "visual": { "image_size": 32, "block": "basic", "depths": [1, 1], "width": 4, "grid": 4 },
          "language": { "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1 },
          "lora": { "r": 2 },
          "loss": {},
          "trunk_fit": { "steps": 2, "batch": 2 },
          "language_fit": { "steps": 2, "batch": 2 },
          "joint_fit": { "steps": 150, "batch": 2, "checkpoint_every": 3, "masks": "coverage" }
        }
        """;

    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-resume-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string[] Fit(string run)
    {
        string config = Path.Combine(_folder, "tiny.json");
        File.WriteAllText(config, Config);
        return ["fit", config, "--resume", "--device", "cpu", "--out", Path.Combine(_folder, run)];
    }

    [Fact]
    public async Task A_fit_killed_at_random_steps_ends_as_if_it_had_not_been()
    {
        var whole = PcrlProcess.RunTool("pcrl-train", Fit("whole"));
        Assert.True(whole.ExitCode == 0, whole.Error);
        Assert.Contains("leakage: findings of 0 of ", whole.Output);

        for (int kill = 0; kill < Kills; kill++)
            await Kill("killed");
        var resumed = PcrlProcess.RunTool("pcrl-train", Fit("killed"));
        Assert.True(resumed.ExitCode == 0, resumed.Error);
        foreach (string file in (string[])["model.safetensors", "adapter_model.safetensors"])
            Assert.Equal(File.ReadAllBytes(Path.Combine(_folder, "whole", file)), File.ReadAllBytes(Path.Combine(_folder, "killed", file)));
    }

    private string Checkpoint(string run) => Path.Combine(_folder, run, "stages", "fit.checkpoint.safetensors");

    /// <summary>Lets a fit run until some time after its next checkpoint.</summary>
    private async Task Kill(string run)
    {
        using var process = PcrlProcess.StartTool("pcrl-train", Fit(run));
        var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
        var before = File.GetLastWriteTimeUtc(Checkpoint(run)); // a date long past where there is none yet
        while (!process.HasExited && File.GetLastWriteTimeUtc(Checkpoint(run)) == before)
            await Task.Delay(5);
        await Task.Delay(new Random().Next(150));
        process.Kill(); // SIGKILL
        await process.WaitForExitAsync();
        Assert.True(process.ExitCode == 137, $"the fit ended before it could be killed: {await error}{await output}");
        Assert.False(File.Exists(Path.Combine(_folder, run, "metrics.json")));
    }

    [SkippableFact]
    public async Task A_full_disk_leaves_the_last_good_checkpoint()
    {
        await Kill("begun");
        string disk = Path.Combine(_folder, "disk");
        string[] files = [.. Directory.GetFiles(Path.Combine(_folder, "begun"), "*", SearchOption.AllDirectories).Where(file => !file.Contains(".tmp-", StringComparison.Ordinal))];
        const int page = 4096;
        long room = files.Sum(file => (new FileInfo(file).Length + page - 1) / page * page) + new FileInfo(Checkpoint("begun")).Length / 2;
        Directory.CreateDirectory(disk);
        Skip.IfNot(PcrlProcess.Ends("mount", "-t", "tmpfs", "-o", $"size={room}", "pcrl-test", disk), "NOT CHECKED: only root may mount a small disk");
        try
        {
            Directory.CreateDirectory(Path.Combine(disk, "stages"));
            foreach (string file in files)
                File.Copy(file, Path.Combine(disk, Path.GetRelativePath(Path.Combine(_folder, "begun"), file)));
            byte[] good = File.ReadAllBytes(Checkpoint("disk"));
            var full = PcrlProcess.RunTool("pcrl-train", Fit("disk"));
            Assert.Equal(1, full.ExitCode);
            Assert.Matches("fit.checkpoint.safetensors: cannot be written.*space", full.Error.TrimEnd().Split('\n')[^1]); // before it stands the progress
            Assert.Equal(good, File.ReadAllBytes(Checkpoint("disk")));
            Assert.Equal(files.Length, Directory.GetFiles(disk, "*", SearchOption.AllDirectories).Length);
        }
        finally
        {
            Assert.True(PcrlProcess.Ends("umount", disk));
        }
    }
}
