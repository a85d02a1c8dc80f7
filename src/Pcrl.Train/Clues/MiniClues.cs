using System.Diagnostics;
using System.Text.Json;
using Pcrl.Runtime;
using Pcrl.Runtime.Studies;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Fitting;
using Pcrl.Train.Models.Clip;
using Pcrl.Train.Models.Sam;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Clues;

/// <summary>How the small segmenter and the small image-text model are made from phantoms.</summary>
public sealed record MiniCluesConfig
{
    /// <summary>Side of the slices.</summary>
    public int ImageSize { get; init; } = 64;

    /// <summary>Phantoms to learn from.</summary>
    public int Phantoms { get; init; } = 120;

    /// <summary>Seed of the first of them.</summary>
    public ulong PhantomSeed { get; init; } = 5_000_000;

    /// <summary>How the phantoms are made.</summary>
    public PhantomOptions Phantom { get; init; } = new() { Difficulty = 0.3f };

    /// <summary>Things smaller than this share of a slice are not learned from.</summary>
    public double SmallestShare { get; init; } = 0.004;

    /// <summary>The segmenter.</summary>
    public SamConfig Sam { get; init; } = new()
    {
        ImageSize = 64, PatchSize = 4, EmbedDim = 96, Depth = 4, NumHeads = 4, MlpRatio = 3, WindowSize = 8, GlobalAttnIndexes = [1, 3],
        PromptEmbedDim = 192, MaskInChans = 16, DecoderMlpDim = 256, DecoderHeads = 8, IouHidden = 64,
    };

    /// <summary>Optimisation of the segmenter's channels by the organ of every pixel; the batch counts slices.</summary>
    public FitConfig OrganFit { get; init; } = new() { Steps = 2600, Batch = 8, LearningRate = 3e-3, WarmUp = 0.05, WeightDecay = 0.01 };

    /// <summary>Optimisation of what chooses among them for a point; the batch counts slices.</summary>
    public FitConfig PointFit { get; init; } = new() { Steps = 900, Batch = 2, LearningRate = 2e-3, WarmUp = 0.05, WeightDecay = 0.01 };

    /// <summary>Points per slice and step there.</summary>
    public int Points { get; init; } = 64;

    /// <summary>The image-text model.</summary>
    public ClipConfig Clip { get; init; } = new()
    {
        ImageSize = 64, PatchSize = 16, VisionWidth = 64, VisionLayers = 3, VisionHeads = 1, VocabSize = 258, ContextLength = 64,
        TextWidth = 64, TextLayers = 1, TextHeads = 1, ProjectionDim = 64,
    };

    /// <summary>Optimisation of the image-text model; the batch counts studies.</summary>
    public FitConfig ClipFit { get; init; } = new() { Steps = 320, Batch = 2, LearningRate = 2e-3, WeightDecay = 0.01 };

    /// <summary>Phantoms whose galleries the image-text model learns from.</summary>
    public int ClipPhantoms { get; init; } = 48;

    /// <summary>Points per side for these galleries.</summary>
    public int ClipPoints { get; init; } = 8;

    /// <summary>Settings of the mask generator that suit the small segmenter. No clean-up: at this size sulci and cisterns are islands of a few pixels.</summary>
    public SamGeneratorConfig Generator { get; init; } = new()
    {
        PointsPerSide = 16, PointsPerBatch = 256, PredIouThresh = 0.15, StabilityScoreThresh = 0.001, BoxNmsThresh = 0.96,
    };

    /// <summary>Threads that train side by side; each takes its share of a batch, so another number makes other models.</summary>
    public int Workers { get; init; } = 2;

    /// <summary>Seed of weights and sampling.</summary>
    public int Seed { get; init; } = 1;
}

/// <summary>A slice with at least one thing on it.</summary>
/// <param name="Layer">0 to 7.</param>
/// <param name="Pixels">[S, S] grey values.</param>
/// <param name="Organs">[S, S] <see cref="PhantomOrgan"/> of every pixel.</param>
/// <param name="Labels">The same, but <see cref="Lesion"/> where one lies above the organ.</param>
/// <param name="Things">Its connected organs and lesions.</param>
internal sealed record TrainingSlice(int Layer, byte[] Pixels, byte[] Organs, byte[] Labels, IReadOnlyList<PhantomThing> Things)
{
    /// <summary>Label of lesions.</summary>
    public const byte Lesion = (byte)PhantomOrgan.Tentorium + 1;

    /// <summary>Organs and lesions inside the head.</summary>
    public byte[] Present { get; } = [.. Labels.Distinct().Where(l => l != (byte)PhantomOrgan.Outside)];
}

/// <summary>Teaches a small Segment Anything and a small CLIP on phantoms, from nothing, with the classes of the full-size ones.</summary>
public static class MiniClues
{
    /// <summary>Weights of the segmenter inside a folder of mini models.</summary>
    public static string SamFile(string folder) => Path.Combine(folder, "sam.safetensors");

    /// <summary>Folder of the image-text model inside a folder of mini models.</summary>
    public static string ClipFolder(string folder) => Path.Combine(folder, Clip);

    private const string Clip = "clip";

    /// <summary>Trains both models and writes them; the image-text model last, so that a folder with it is whole.</summary>
    /// <exception cref="InputException">The folder cannot be written.</exception>
    public static void Train(string folder, MiniCluesConfig config, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        OutputFolder.Make(folder, Clip);
        TrainingSlice[][] studies = [.. MakePhantoms(config, progress, cancellation).Select(study => Slices(study, config))];
        using var workers = new Workers(config.Workers);
        workers.Seed(config.Seed);
        LabelledMask[][] galleries;
        using (var sam = new SamModel(config.Sam))
        {
            MiniSam.Fit(sam, [.. studies.SelectMany(slices => slices)], config, workers, progress, cancellation);
            Weights.Save(SamFile(folder), Weights.Of(sam));
            galleries = Galleries(sam, [.. studies.Take(config.ClipPhantoms)], config, progress, cancellation);
        }
        using var clip = new ClipModel(config.Clip);
        WriteVocabulary(ClipFolder(folder));
        MiniClip.Fit(clip, ClipScorer.ReadVocabulary(ClipFolder(folder)), galleries, config, workers, progress, cancellation);
        Weights.Save(Path.Combine(ClipFolder(folder), "model.safetensors"), Weights.Of(clip));
    }

    /// <summary>Of every study what retrieval will choose among.</summary>
    private static LabelledMask[][] Galleries(
        SamModel sam, TrainingSlice[][] studies, MiniCluesConfig config, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var clock = Stopwatch.StartNew();
        var generator = new SamMaskGenerator(sam, config.Generator with { PointsPerSide = config.ClipPoints });
        var found = new LabelledMask[studies.Length][];
        int done = 0;
        Parallel.For(0, studies.Length, new ParallelOptions { MaxDegreeOfParallelism = config.Workers, CancellationToken = cancellation }, i =>
        {
            set_num_threads(1);
            found[i] = [.. studies[i].SelectMany(slice =>
            {
                byte[] colour = [.. slice.Pixels.SelectMany(v => new[] { v, v, v })];
                return MaskGallery.Select(generator.Generate(colour, config.ImageSize, config.ImageSize, cancellation)).Select(m => new LabelledMask(slice, m.Mask.Decode()));
            })];
            progress.Report(new StageProgress("galleries", Interlocked.Increment(ref done), studies.Length, "studies", clock.Elapsed, null));
        });
        return found;
    }

    internal static List<PhantomClueStudy> MakePhantoms(MiniCluesConfig config, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var clock = Stopwatch.StartNew();
        var studies = new PhantomClueStudy[config.Phantoms];
        int done = 0;
        Parallel.For(0, studies.Length, new ParallelOptions { MaxDegreeOfParallelism = get_num_threads(), CancellationToken = cancellation }, i =>
        {
            studies[i] = PhantomClueStudy.Create(config.PhantomSeed + (ulong)i, config.Phantom, config.ImageSize);
            lock (studies)
                progress.Report(new StageProgress("phantoms", ++done, studies.Length, "studies", clock.Elapsed, null));
        });
        return [.. studies];
    }

    internal static TrainingSlice[] Slices(PhantomClueStudy study, MiniCluesConfig config)
    {
        int smallest = (int)(config.SmallestShare * config.ImageSize * config.ImageSize);
        return [.. Enumerable.Range(0, SliceSelector.Count).Select(s => new TrainingSlice(
            s / SliceSelector.SlicesPerLayer, study.Study.Slice(s).ToArray(), study.OrgansOf(s).ToArray(), Labels(study, s), [.. study.Things(s, smallest)])).Where(s => s.Things.Count > 0)];
    }

    private static byte[] Labels(PhantomClueStudy study, int slice)
    {
        byte[] labels = study.OrgansOf(slice).ToArray();
        for (int i = 0; i < labels.Length; i++)
            labels[i] = study.LesionMap[slice * labels.Length + i] > 0 ? TrainingSlice.Lesion : labels[i];
        return labels;
    }

    /// <summary>A byte-pair vocabulary of single letters: CLIP's form without merges.</summary>
    internal static void WriteVocabulary(string folder)
    {
        var tokens = new Dictionary<string, int>();
        foreach (string end in new[] { "", "</w>" })
        {
            for (int c = 0; c < 128; c++)
                tokens[(c > ' ' && c < 127 ? ((char)c).ToString() : $"<{c}>") + end] = tokens.Count;
        }
        tokens["<|startoftext|>"] = tokens.Count;
        tokens["<|endoftext|>"] = tokens.Count;
        AtomicFile.Write(Path.Combine(folder, "vocab.json"), stream => JsonSerializer.Serialize(stream, tokens));
        AtomicFile.Write(Path.Combine(folder, "merges.txt"), stream => stream.Write("#version: 0.2\n"u8));
    }
}
