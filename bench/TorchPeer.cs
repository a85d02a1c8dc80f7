using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Pcrl.Runtime.Vision;

namespace Pcrl.Bench;

/// <summary>PyTorch in a process of its own, which encodes the same study with the same weights whenever it is told to: see <c>torch_peer.py</c>.</summary>
internal sealed class TorchPeer : IDisposable
{
    private readonly Process _process;

    private TorchPeer(Process process, string versions)
    {
        _process = process;
        Versions = versions;
    }

    /// <summary>One line: PyTorch, cuDNN and the card.</summary>
    public string Versions { get; }

    /// <summary>Starts it; null and the reason if there is no Python or no PyTorch.</summary>
    public static (TorchPeer? Peer, string? Problem) Start(string python, VisualConfig config, float[] study, int seed, string folder)
    {
        string slicesFile = Path.Combine(folder, "study.f32");
        File.WriteAllBytes(slicesFile, System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(study));
        string Text(int value) => value.ToString(CultureInfo.InvariantCulture);
        string[] arguments =
        [
            Path.Combine(AppContext.BaseDirectory, "torch_peer.py"), "--slices-file", slicesFile, "--slices", Text(study.Length / (config.ImageSize * config.ImageSize)),
            "--image-size", Text(config.ImageSize), "--width", Text(config.Width), "--depths", string.Join(',', config.Depths.Select(Text)),
            "--grid", Text(config.Grid), "--tokens", Text(config.TokenWidth), "--seed", Text(seed), "--folder", folder,
        ];
        try
        {
            var process = Process.Start(new ProcessStartInfo(python, arguments) { RedirectStandardInput = true, RedirectStandardOutput = true })!;
            if (process.StandardOutput.ReadLine() is { } versions)
                return (new TorchPeer(process, versions), null);
            process.WaitForExit();
            using (process)
                return (null, $"{python} ended with {process.ExitCode} before it began");
        }
        catch (System.ComponentModel.Win32Exception problem)
        {
            return (null, problem.Message);
        }
    }

    /// <summary>Encodes once.</summary>
    public Answer Encode(string kind)
    {
        _process.StandardInput.WriteLine(kind);
        _process.StandardInput.Flush();
        string line = _process.StandardOutput.ReadLine() ?? throw new InvalidOperationException($"PyTorch ended while it ran {kind}");
        return JsonSerializer.Deserialize<Answer>(line, Json.Readable)!;
    }

    public void Dispose()
    {
        _process.StandardInput.Close(); // its loop ends
        if (!_process.WaitForExit(TimeSpan.FromSeconds(20)))
            _process.Kill();
        _process.Dispose();
    }

    /// <summary>Seconds of one study, or why there are none. Tokens: a file, the first time only.</summary>
    internal sealed record Answer(double Seconds, double Resident, string? Tokens, string? Error);
}
