using System.Text.Json.Nodes;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Models;
using TorchSharp;

namespace Pcrl.Convert;

/// <summary>
/// Checkpoint → bundle. The bundle is built in a temporary folder beside its place, opened with the runtime, compared with the
/// trained model, and only then renamed: a bundle that exists has passed.
/// </summary>
public static class BundleConverter
{
    /// <summary>Converts a trained run.</summary>
    /// <param name="run">The run, its model in evaluation mode.</param>
    /// <param name="provenance">What the manifest shall say of data, commit and metrics; the parity figures are added.</param>
    /// <param name="folder">The bundle; an older one there is replaced.</param>
    /// <param name="say">Gets one line per step.</param>
    /// <param name="cancellation">Ends it between steps; nothing is left then.</param>
    /// <returns>The parity figures that went into the manifest.</returns>
    /// <exception cref="InputException">Weights are missing or not finite, runtime and trained model part, or the folder cannot be written.</exception>
    public static ParityFigures Convert(
        TrainedRun run, JsonObject provenance, string folder, Action<string> say, CancellationToken cancellation = default)
    {
        var (config, shape) = (run.Config, run.Model.Shape);
        folder = Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder));
        string temporary = $"{folder}.tmp-{Environment.ProcessId}";
        try
        {
            Directory.CreateDirectory(temporary);
            var weights = Weights.Of(run.Model).ToDictionary(w => w.Name, w => w.Value);
            float[] Weight(string name) => weights.TryGetValue(name, out var value)
                ? Weights.Floats(value)
                : throw new InputException(config.Name, $"the trained model has no weight {name}");

            say($"writing {Bundle.VisualFile}");
            VisualGgufWriter.Write(Path.Combine(temporary, Bundle.VisualFile), shape.Visual, Weight);
            cancellation.ThrowIfCancellationRequested();

            say($"writing {Bundle.LanguageFile}");
            LlmGgufWriter.Write(
                Path.Combine(temporary, Bundle.LanguageFile), $"pcrl-{config.Name}", shape.Language,
                name => Weight("language_model." + name), Adapter(shape.Lora, weights), run.Tokenizer.Data);
            cancellation.ThrowIfCancellationRequested();

            if (run.PhrasesPath is { } phrases)
                File.Copy(phrases, Path.Combine(temporary, Bundle.PhrasesFile));
            var manifest = new Manifest
            {
                Format = Manifest.CurrentFormat,
                Model = config.Name,
                Description = config.Description,
                Visual = shape.Visual,
                Prompt = config.Prompt,
                Sampling = new SamplingDefaults(0.6f, 0.9f, config.ContextLength),
                ContextLength = config.ContextLength,
                Files = new Dictionary<string, FileDigest>(),
                Provenance = provenance,
            };
            say("comparing the runtime with the trained model");
            var figures = ParityCheck.Compare(run, manifest, temporary);
            figures.ThrowIfApart(folder);
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

    /// <summary>The adapter in PEFT's names; the model calls the same tensors by their place in it.</summary>
    private static LoraAdapter Adapter(LoraConfig lora, Dictionary<string, torch.Tensor> weights) => new(
        lora.R, lora.LoraAlpha,
        name => weights.TryGetValue("language_model." + name["base_model.model.".Length..], out var value) ? Weights.Floats(value) : null);

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
