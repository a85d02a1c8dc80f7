using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Fitting;
using Pcrl.Train.Models;
using Pcrl.Train.Quantisation;

namespace Pcrl.Convert;

/// <summary>
/// A trained model that lies in several places, as a full-size one does: what was trained (branches and adapter) in one checkpoint, the frozen LLM in its own
/// folder, the frozen trunk perhaps in a file of its own.
/// </summary>
/// <param name="Config">The run's configuration.</param>
/// <param name="Language">The base LLM.</param>
/// <param name="Adapter">Its adapter.</param>
/// <param name="Trained">Holds <c>local_*</c> and <c>global_*</c>, and <c>trunk.*</c> unless <paramref name="Trunk"/> does.</param>
/// <param name="Trunk">A ResNet under torchvision's names, whatever stands before them; or null.</param>
/// <param name="PhrasesPath">File of the findings it was trained on, for the drafter; or null.</param>
public sealed record ModelParts(RunConfig Config, LlmCheckpoint Language, LoraAdapter Adapter, ITensorSource Trained, ITensorSource? Trunk, string? PhrasesPath)
    : IDisposable
{
    private const string TrunkPrefix = "trunk.";

    /// <summary>Opens the parts.</summary>
    /// <param name="trained">A run folder, or the authors' <c>.pth</c>.</param>
    /// <param name="config">Configuration; none for a run folder's own.</param>
    /// <param name="llm">Folder of the base LLM.</param>
    /// <param name="trunk">File of the trunk, or null.</param>
    /// <exception cref="InputException">Something is missing, broken, or does not fit together.</exception>
    public static ModelParts Open(string trained, string? config, string llm, string? trunk)
    {
        var run = new RunFolder(trained);
        bool isRun = Directory.Exists(trained);
        if (!isRun && config is null)
            throw new InputException(trained, "says nothing of its dimensions: name its configuration too");
        var settings = RunConfig.Load(config ?? run.ConfigPath, []);
        var opened = new Stack<IDisposable>();
        try
        {
            T Keep<T>(T part) where T : IDisposable
            {
                opened.Push(part);
                return part;
            }
            var language = Keep(LlmCheckpoint.Open(llm));
            var weights = Keep(Checkpoint.Open(isRun ? run.ModelPath : trained));
            var adapter = isRun
                ? LoraAdapter.Open(trained)
                : LoraAdapter.FromTensors(trained, weights, weights.Names.Where(LoraLinear.IsAdapter), _ => (settings.Lora.LoraAlpha, false));
            var parts = new ModelParts(settings, language, adapter, weights, trunk is null ? null : Keep(Checkpoint.Open(trunk)),
                isRun && File.Exists(run.PhrasesPath) ? run.PhrasesPath : null);
            parts.RequireVisualNames();
            return parts;
        }
        catch
        {
            while (opened.TryPop(out var part))
                part.Dispose();
            throw;
        }
    }

    /// <summary>A weight of the visual path by its training name, row-major.</summary>
    /// <exception cref="InputException">No part has it.</exception>
    public float[] VisualWeight(string name)
    {
        return Trunk is not null && IsTrunk(name) ? Trunk.ReadFloats(PrefixInTrunk() + name[TrunkPrefix.Length..]) : Trained.ReadFloats(name);
    }

    /// <summary>Says at once all that is missing or left over: the files may be of another architecture than the configuration's.</summary>
    private void RequireVisualNames()
    {
        // Names follow from blocks alone: the model of the same blocks, a few channels wide, has them all.
        const int few = 8;
        var shape = Config.Shape(1);
        using var narrow = new PcrlModel(shape with
        {
            Visual = shape.Visual with { Width = few, TokenWidth = few }, Language = shape.Language with { HiddenSize = few, NumHiddenLayers = 0 }, Base = BaseWeights.Float32,
        });
        var names = Weights.Of(narrow).Select(w => w.Name).Where(IsVisual).ToLookup(name => Trunk is not null && IsTrunk(name));
        Weights.RequireNames(Trained, [.. names[false]], name => !IsVisual(name) || IsUnused(name) || (Trunk is not null && IsTrunk(name)));
        if (Trunk is not null)
            Weights.RequireNames(Trunk, [.. names[true].Select(name => PrefixInTrunk() + name[TrunkPrefix.Length..])]);
    }

    /// <summary>What a ResNet's file holds besides what makes features.</summary>
    private static bool IsUnused(string name) =>
        name.StartsWith(TrunkPrefix + "fc.", StringComparison.Ordinal) || name.EndsWith(".num_batches_tracked", StringComparison.Ordinal);

    private static bool IsTrunk(string name) => name.StartsWith(TrunkPrefix, StringComparison.Ordinal);

    /// <summary>The visual path in torch, without an LLM behind it.</summary>
    internal PcrlModel VisualModel()
    {
        var shape = Config.Shape(1);
        var model = new PcrlModel(shape with { Language = shape.Language with { NumHiddenLayers = 0 }, Base = BaseWeights.Float32 });
        foreach (var (name, value) in Weights.Of(model).Where(w => IsVisual(w.Name)))
            Weights.Set(value, VisualWeight(name));
        model.eval();
        return model;
    }

    private static bool IsVisual(string name) =>
        new[] { TrunkPrefix, "local_res.", "local_visual_projector.", "global_visual_projector." }.Any(prefix => name.StartsWith(prefix, StringComparison.Ordinal));

    private string PrefixInTrunk()
    {
        const string first = "conv1.weight";
        string[] stems = [.. Trunk!.Names.Where(n => n == first || n.EndsWith("." + first, StringComparison.Ordinal)).OrderBy(n => n.Length)];
        return stems.Length > 0 ? stems[0][..^first.Length] : throw new InputException(Trunk.Path, "holds no ResNet (no conv1.weight)");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Language.Dispose();
        Trained.Dispose();
        Trunk?.Dispose();
    }
}
