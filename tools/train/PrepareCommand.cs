using System.CommandLine;
using System.Security.Cryptography;
using Pcrl.Runtime;
using Pcrl.Train.Clues;
using Pcrl.Train.Data;
using Pcrl.Train.Models.Clip;
using Pcrl.Train.Models.Sam;
using Pcrl.Train.Torch;

namespace Pcrl.Tools;

/// <summary><c>prepare DATASET</c>: makes the clues that training aligns its representations with.</summary>
internal static class PrepareCommand
{
    private static readonly Argument<string> Dataset = new("DATASET")
    {
        Description = "dataset.json (or its folder): [{\"id\", \"study\", \"findings\"}], or phantoms:COUNT@SEED",
    };

    private static readonly Option<string> Out = new("--out", "-o") { Description = "Folder for the clues, one file a study", DefaultValueFactory = _ => "runs/clues" };
    private static readonly Option<string?> Sam = new("--sam") { Description = "Segment Anything weights of the user (.pth or .safetensors, any size) [default: a small one, trained here]" };
    private static readonly Option<string?> Scorer = new("--scorer") { Description = "Folder with MedCLIP or CLIP weights and vocabulary [default: a small CLIP, trained here]" };
    private static readonly Option<string> Mini = new("--mini") { Description = "Folder of the small models, trained where it is empty", DefaultValueFactory = _ => "runs/mini-clues" };
    private static readonly Option<int> Size = new("--size") { Description = "Side of the slices in pixels [default: 512, or the small models' own]" };
    private static readonly Option<bool> Report = new("--report") { Description = "Measure against the true masks of phantoms that the small models have not seen" };
    private static readonly Option<int> Measured = new("--phantoms") { Description = "Phantoms to measure on", DefaultValueFactory = _ => 12 };
    private static readonly Option<ulong> MeasuredSeed = new("--phantom-seed") { Description = "Seed of the first of them", DefaultValueFactory = _ => 800_000_000 };
    private static readonly Option<string?> Pictures = new("--pictures") { Description = "Folder for pictures of a study: its gallery, and its report beside the masks (PNG and HTML)" };
    private static readonly Option<string?> Vocabulary = new("--vocabulary") { Description = "Layers, entities and cleaning as JSON [default: built in]" };
    private static readonly Option<int> Threads = new("--threads") { Description = "Slices at the same time", DefaultValueFactory = _ => Environment.ProcessorCount };

    public static Command Create()
    {
        var command = new Command("prepare", "Make mask galleries, entity clauses and themes of a data set; goes on where it was stopped")
        {
            Dataset, Out, Sam, Scorer, Mini, Size, Report, Measured, MeasuredSeed, Pictures, Vocabulary, Threads, DeviceOption.Option,
        };
        command.SetAction((parsed, cancellation) => Task.FromResult(Execute(parsed, cancellation)));
        return command;
    }

    private static int Execute(ParseResult parsed, CancellationToken cancellation)
    {
        int threads = parsed.GetValue(Threads);
        if (threads is < 1 or > 256)
            throw new InputException("--threads", "must be between 1 and 256");
        if (parsed.GetValue(Size) is not (0 or (>= 32 and <= 2048)))
            throw new InputException("--size", "must be between 32 and 2048");
        if (parsed.GetValue(Measured) < 1)
            throw new InputException("--phantoms", "must be at least 1");
        var config = new MiniCluesConfig();
        // What cannot be read is said before minutes of training.
        var vocabulary = parsed.GetValue(Vocabulary) is { } file ? ClueVocabulary.Load(file) : ClueVocabulary.Default;
        var data = ClueDataset.Find(parsed.GetValue(Dataset)!, config.Phantom);
        var (samPath, scorerPath) = (parsed.GetValue(Sam), parsed.GetValue(Scorer));
        InputException.ThrowIfMissing(samPath, scorerPath);
        DeviceOption.Choose(parsed);
        if (samPath is null || scorerPath is null)
        {
            string mini = parsed.GetValue(Mini)!;
            if (!File.Exists(Path.Combine(MiniClues.ClipFolder(mini), "model.safetensors")))
            {
                TorchDevice.Configure(threads, config.Seed);
                var clock = System.Diagnostics.Stopwatch.StartNew();
                MiniClues.Train(mini, config, new ConsoleProgress(), cancellation);
                Console.WriteLine($"{mini}: small models made from nothing in {clock.Elapsed.TotalSeconds:0} s with {config.Workers} workers");
            }
            samPath ??= MiniClues.SamFile(mini);
            scorerPath ??= MiniClues.ClipFolder(mini);
        }
        bool small = parsed.GetValue(Sam) is null;
        int size = parsed.GetValue(Size) is > 0 and var chosen ? chosen : small ? config.ImageSize : 512;
        var generator = small ? config.Generator : new SamGeneratorConfig { MinMaskRegionArea = 200 };

        // Slices run side by side, each on one thread: the same masks whatever the number.
        TorchDevice.Configure(1, config.Seed);
        using var sam = SamModel.Open(samPath);
        using var scorer = ImageTextScorer.Open(scorerPath);
        using var maker = new ClueMaker(sam, generator, scorer, vocabulary, Digest(samPath) + Digest(scorerPath), threads);
        string folder = parsed.GetValue(Out)!;
        var (made, skipped) = PrepareRun.Run(data, maker, size, folder, new ConsoleProgress(), cancellation);
        Console.WriteLine($"{folder}: {made} studies made, {skipped} were there already");
        if (parsed.GetValue(Pictures) is { } pictures)
        {
            for (int i = 0; i < data.Ids.Count; i++)
                CluePictures.Write(data.Open(i, size, cancellation), StudyClues.Load(PrepareRun.FileOf(folder, data.Ids[i])), pictures);
            Console.WriteLine($"pictures: {pictures}");
        }
        if (parsed.GetValue(Report))
            Console.Write(ClueReport.Measure(maker, parsed.GetValue(MeasuredSeed), parsed.GetValue(Measured), config.Phantom, size, new ConsoleProgress(), cancellation).Table());
        return 0;
    }

    /// <summary>SHA-256 of a file, or of the files of a folder.</summary>
    private static string Digest(string path)
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        foreach (string file in Directory.Exists(path) ? Directory.GetFiles(path).Order(StringComparer.Ordinal).ToArray() : [path])
        {
            using var stream = File.OpenRead(file);
            hash.AppendData(SHA256.HashData(stream));
        }
        return System.Convert.ToHexStringLower(hash.GetHashAndReset());
    }
}
