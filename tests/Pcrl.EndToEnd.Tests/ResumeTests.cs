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

        string checkpoint = Path.Combine(_folder, "killed", "stages", "fit.checkpoint.safetensors");
        var random = new Random();
        for (int kill = 0; kill < Kills; kill++)
        {
            using var process = PcrlProcess.StartTool("pcrl-train", Fit("killed"));
            var (output, error) = (process.StandardOutput.ReadToEndAsync(), process.StandardError.ReadToEndAsync());
            var before = File.GetLastWriteTimeUtc(checkpoint); // a date long past where there is none yet
            while (!process.HasExited && File.GetLastWriteTimeUtc(checkpoint) == before)
                await Task.Delay(5);
            await Task.Delay(random.Next(150));
            process.Kill(); // SIGKILL
            await process.WaitForExitAsync();
            Assert.True(process.ExitCode == 137, $"the fit ended before it could be killed: {await error}{await output}");
            Assert.False(File.Exists(Path.Combine(_folder, "killed", "metrics.json")));
        }
        var resumed = PcrlProcess.RunTool("pcrl-train", Fit("killed"));
        Assert.True(resumed.ExitCode == 0, resumed.Error);
        foreach (string file in (string[])["model.safetensors", "adapter_model.safetensors"])
            Assert.Equal(File.ReadAllBytes(Path.Combine(_folder, "whole", file)), File.ReadAllBytes(Path.Combine(_folder, "killed", file)));
    }
}
