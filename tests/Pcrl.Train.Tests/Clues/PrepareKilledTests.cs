using System.Diagnostics;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Clues;
using Pcrl.Train.Models.Clip;
using Pcrl.Train.Models.Sam;
using Pcrl.Train.Torch;

namespace Pcrl.Train.Tests.Clues;

/// <summary><c>prepare</c> as a process of its own that is killed without warning.</summary>
public sealed class PrepareKilledTests : IDisposable
{
    private const int Studies = 2;
    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-killed-").FullName;

    private string Out => Path.Combine(_folder, "out");

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void After_a_kill_it_goes_on_where_it_was()
    {
        WriteModels();
        var random = new Random();
        using (var early = Start())
        {
            Thread.Sleep(random.Next(3000)); // anywhere: while the runtime starts, while models open, in the first study
            early.Kill();
            early.WaitForExit();
        }
        using (var later = Start())
        {
            while (!later.HasExited && Finished().Length == 0)
                Thread.Sleep(20);
            Thread.Sleep(random.Next(300));
            later.Kill();
            later.WaitForExit();
        }
        var before = Finished().ToDictionary(file => file, File.GetLastWriteTimeUtc);
        Assert.NotEmpty(before);

        Assert.Contains($"{Studies - before.Count} studies made, {before.Count} were there already", End(Start()));
        Assert.Equal(Studies, Finished().Length);
        Assert.All(Finished(), file => StudyClues.Load(file));
        Assert.All(before, file => Assert.Equal(file.Value, File.GetLastWriteTimeUtc(file.Key)));
        Assert.Contains($"0 studies made, {Studies} were there already", End(Start()));
    }

    private string[] Finished() => Directory.Exists(Out) ? Directory.GetFiles(Out, "*.clues.json") : [];

    private void WriteModels()
    {
        TorchDevice.Configure(1, 1);
        using var sam = new SamModel(new SamConfig
        {
            ImageSize = 32, PatchSize = 8, EmbedDim = 16, Depth = 2, NumHeads = 2, MlpRatio = 2, WindowSize = 2, GlobalAttnIndexes = [1],
            PromptEmbedDim = 16, MaskInChans = 8, DecoderMlpDim = 16, DecoderHeads = 8, IouHidden = 16,
        });
        Weights.Save(Path.Combine(_folder, "sam.safetensors"), Weights.Of(sam));
        using var clip = new ClipModel(new ClipConfig
        {
            ImageSize = 16, PatchSize = 8, VisionWidth = 64, VisionLayers = 1, VisionHeads = 1, VocabSize = 258, ContextLength = 64,
            TextWidth = 64, TextLayers = 1, TextHeads = 1, ProjectionDim = 8,
        });
        string folder = Path.Combine(_folder, "clip");
        Directory.CreateDirectory(folder);
        Weights.Save(Path.Combine(folder, "model.safetensors"), Weights.Of(clip));
        MiniClues.WriteVocabulary(folder);
    }

    private Process Start()
    {
        string[] arguments =
        [
            Path.Combine(AppContext.BaseDirectory, "pcrl-train.dll"), "prepare", $"phantoms:{Studies}", "--size", "32", "--threads", "1", "--out", Out,
            "--sam", Path.Combine(_folder, "sam.safetensors"), "--scorer", Path.Combine(_folder, "clip"),
        ];
        var start = new ProcessStartInfo("dotnet", arguments) { RedirectStandardOutput = true };
        start.Environment["OMP_NUM_THREADS"] = "1";
        return Process.Start(start)!;
    }

    private static string End(Process process)
    {
        using (process)
        {
            string output = process.StandardOutput.ReadToEnd();
            process.WaitForExit();
            Assert.Equal(0, process.ExitCode);
            return output;
        }
    }
}
