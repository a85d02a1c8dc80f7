using System.Text.Json.Nodes;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Vision;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Fitting;
using Pcrl.Train.Models;
using Pcrl.Train.Quantisation;

namespace Pcrl.Convert;

/// <summary>A base under an adapter.</summary>
public enum AdapterBase
{
    /// <summary>The weights as they are.</summary>
    Original,

    /// <summary>The matrices of the decoder layers rounded to NF4 with double quantisation.</summary>
    Nf4,
}

/// <summary>How a model is stored, and what may differ from the trained one.</summary>
public sealed record ConversionOptions
{
    /// <summary>What the language model's matrices are stored as.</summary>
    public LlmType LanguageType { get; init; } = LlmType.F32;

    /// <summary>What the visual path's matrices are stored as: F32, F16 or BF16.</summary>
    public GgufType VisualType { get; init; } = GgufType.F32;

    /// <summary>The base that the adapter was trained on. Null for what the run's configuration says, and for NF4, the paper's, where there is none.</summary>
    public AdapterBase? TrainedOn { get; init; }

    /// <summary>
    /// The base that the adapter is added to. Null for the one that it was trained on, which comes nearer to the trained model at every type
    /// (docs/converter.md).
    /// </summary>
    public AdapterBase? MergeOnto { get; init; }

    /// <summary>Names of parity figures that may be above their limit (<see cref="ParityFigures.Names"/>).</summary>
    public IReadOnlyCollection<string> Accepted { get; init; } = [];

    /// <summary>Gets one line per step.</summary>
    public Action<string> Say { get; init; } = _ => { };

    /// <summary>Gets the bytes of the language model that are written, and all of them.</summary>
    public Action<long, long>? Progress { get; init; }
}

/// <summary>
/// Checkpoint → bundle. The bundle is built in a temporary folder beside its place, opened with the runtime, compared with the
/// trained model, and only then renamed: a bundle that exists has passed.
/// </summary>
public static class BundleConverter
{
    /// <summary>Converts a trained run whose model is in memory.</summary>
    /// <param name="run">The run, its model in evaluation mode.</param>
    /// <param name="provenance">What the manifest shall say of data, commit and metrics; the parity figures are added.</param>
    /// <param name="folder">The bundle; an older one there is replaced.</param>
    /// <param name="options">How.</param>
    /// <param name="cancellation">Ends it between steps; nothing is left then.</param>
    /// <returns>The parity figures that went into the manifest.</returns>
    /// <exception cref="InputException">Weights are missing or not finite, runtime and trained model part, or the folder cannot be written.</exception>
    public static ParityFigures Convert(
        TrainedRun run, JsonObject provenance, string folder, ConversionOptions options, CancellationToken cancellation = default)
    {
        var (config, shape) = (run.Config, run.Model.Shape);
        var language = new ModelTensors(config.Name, run.Model, "language_model.");
        var adapters = language.Names.Where(LoraLinear.IsAdapter).ToList();
        var adapter = adapters.Count == 0 ? null : LoraAdapter.FromTensors(config.Name, language, adapters, _ => (shape.Lora.LoraAlpha, false));
        var checkpoint = new LlmCheckpoint($"pcrl-{config.Name}", shape.Language, language, run.Tokenizer.Data, ChatTemplate: null, Files: []);
        return Convert(
            config, shape.Visual, new ModelTensors(config.Name, run.Model).ReadFloats, checkpoint, adapter,
            (manifest, written) => ParityCheck.Compare(run, options.LanguageType, manifest, written), run.PhrasesPath, provenance, folder, options, cancellation);
    }

    /// <summary>Converts a model that lies in several places.</summary>
    /// <inheritdoc cref="Convert(TrainedRun, JsonObject, string, ConversionOptions, CancellationToken)"/>
    public static ParityFigures Convert(
        ModelParts parts, JsonObject provenance, string folder, ConversionOptions options, CancellationToken cancellation = default)
    {
        var visual = parts.Config.Shape(1).Visual;
        if (parts.Language.Config.HiddenSize != visual.TokenWidth)
            throw new InputException(parts.Trained.Path, $"makes visual tokens of width {visual.TokenWidth}, the language model's is {parts.Language.Config.HiddenSize}");
        var trainedOn = options.TrainedOn ?? (parts.Config.LanguageBase == BaseWeights.Nf4 ? AdapterBase.Nf4 : AdapterBase.Original);
        var trained = Over(trainedOn, parts.Language, parts.Adapter);
        return Convert(
            parts.Config, visual, parts.VisualWeight, Over(options.MergeOnto ?? trainedOn, parts.Language, parts.Adapter), parts.Adapter,
            (manifest, written) => ParityCheck.Compare(parts, trained, options.LanguageType, manifest, written), parts.PhrasesPath, provenance, folder, options,
            cancellation);
    }

    private static ParityFigures Convert(
        RunConfig config, VisualConfig visual, Func<string, float[]> visualWeight, LlmCheckpoint language, LoraAdapter? adapter,
        Func<Manifest, string, ParityFigures> compare, string? phrases, JsonObject provenance, string folder, ConversionOptions options,
        CancellationToken cancellation)
    {
        folder = Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder));
        string temporary = folder + AtomicFile.PartialSuffix;
        bool isOther = File.Exists(folder) || (Directory.Exists(folder) && Directory.EnumerateFileSystemEntries(folder).Any() && !File.Exists(Path.Combine(folder, Bundle.ManifestFile)));
        if (isOther)
            throw new InputException(folder, "is no bundle that could be replaced, it is left alone");
        try
        {
            Directory.CreateDirectory(temporary); // one that a killed process left is gone on with
            options.Say($"writing {Bundle.VisualFile}");
            VisualGgufWriter.Write(Path.Combine(temporary, Bundle.VisualFile), visual, visualWeight, options.VisualType);
            cancellation.ThrowIfCancellationRequested();

            options.Say($"writing {Bundle.LanguageFile}");
            LlmGgufWriter.Write(Path.Combine(temporary, Bundle.LanguageFile), language, adapter, options.LanguageType, options.Progress, cancellation);

            if (phrases is not null)
                File.Copy(phrases, Path.Combine(temporary, Bundle.PhrasesFile), overwrite: true);
            var manifest = new Manifest
            {
                Format = Manifest.CurrentFormat,
                Model = config.Name,
                Description = config.Description,
                Visual = visual,
                Prompt = config.Prompt,
                Sampling = new SamplingDefaults(0.6f, 0.9f, config.ContextLength),
                ContextLength = config.ContextLength,
                Files = new Dictionary<string, FileDigest>(),
                Provenance = provenance,
            };
            options.Say("comparing the runtime with the trained model");
            var figures = compare(manifest, temporary);
            figures.ThrowIfApart(folder, options.Accepted);
            provenance["parity"] = figures.ToJson();
            Bundle.WriteManifest(temporary, manifest);
            Bundle.Open(temporary, cancellation);
            Replace(temporary, folder);
            return figures;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InputException(folder, $"cannot be written ({e.Message})", e);
        }
        finally
        {
            if (Directory.Exists(temporary))
                Directory.Delete(temporary, recursive: true);
        }
    }

    private static LlmCheckpoint Over(AdapterBase kind, LlmCheckpoint model, LoraAdapter? adapter) =>
        adapter is null || kind == AdapterBase.Original ? model : model with { Weights = new Nf4Tensors(model.Weights) };

    /// <summary>Converts a language model alone.</summary>
    /// <param name="model">The base.</param>
    /// <param name="adapter">To be merged, or null.</param>
    /// <param name="path">The GGUF; an older one there is replaced.</param>
    /// <param name="options">How.</param>
    /// <param name="cancellation">Ends it between steps; nothing is left then.</param>
    /// <returns>The parity figures.</returns>
    /// <exception cref="InputException">Parts do not fit together, a weight is not finite, runtime and checkpoint part, or the file cannot be written.</exception>
    public static ParityFigures Convert(
        LlmCheckpoint model, LoraAdapter? adapter, string path, ConversionOptions options, CancellationToken cancellation = default)
    {
        if (model.Files.Any(file => Path.GetFullPath(file) == Path.GetFullPath(path)))
            throw new InputException(path, "is a file of the model itself");
        ParityFigures? figures = null;
        var trainedOn = options.TrainedOn ?? AdapterBase.Nf4;
        options.Say($"writing {path} as {options.LanguageType}");
        LlmGgufWriter.Write(path, Over(options.MergeOnto ?? trainedOn, model, adapter), adapter, options.LanguageType, options.Progress, cancellation, written =>
        {
            options.Say($"peak memory so far {PeakMemory():0.00} GiB; comparing llama.cpp with the checkpoint");
            figures = ParityCheck.Compare(Over(trainedOn, model, adapter), adapter, options.LanguageType, written);
            options.Say($"peak memory {PeakMemory():0.00} GiB");
            figures.ThrowIfApart(path, options.Accepted);
        });
        return figures!;
    }

    /// <summary>The most memory this process has had, in GiB.</summary>
    private static double PeakMemory()
    {
        using var process = System.Diagnostics.Process.GetCurrentProcess();
        return process.PeakWorkingSet64 / (double)(1 << 30);
    }

    private static void Replace(string temporary, string folder)
    {
        string old = temporary + "-old";
        if (Directory.Exists(folder))
            Directory.Move(folder, old);
        Directory.Move(temporary, folder);
        if (Directory.Exists(old))
            Directory.Delete(old, recursive: true);
    }
}
