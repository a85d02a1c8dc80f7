using System.Text.Json;
using Pcrl.Runtime;
using Pcrl.Train.Fitting;
using Pcrl.Train.Models;
using static TorchSharp.torch;

namespace Pcrl.Train.Checkpoints;

/// <summary>
/// The checkpoint of a joint fit: one safetensors file, written whole or not at all, so the last good one stays whatever happens. It holds
/// <list type="bullet">
/// <item>branches, heads and BatchNorm statistics under the model's names, adapters under PEFT's;</item>
/// <item>AdamW's <c>optimizer.exp_avg.NAME</c> and <c>optimizer.exp_avg_sq.NAME</c> of everything trained, and <c>optimizer.step</c> of each;</item>
/// <item><c>best.NAME</c>, the weights of the best epoch, where one is looked for;</item>
/// <item>in its metadata <c>run</c> (which run it belongs to) and <c>state</c> (step, running means, history).</item>
/// </list>
/// The state of the random numbers is the seed, which is part of the run, and the step: those of a batch follow from them.
/// </summary>
/// <param name="path">The file.</param>
/// <param name="run">Tells the run from any other: a digest of configuration and data.</param>
internal sealed class FitCheckpoint(string path, string run)
{
    private sealed record State(int Step, double Smooth, double Tail, FitHistory History);

    /// <summary>Replaces the checkpoint.</summary>
    /// <exception cref="InputException">It cannot be written; the one before is still there.</exception>
    public void Save(PcrlModel model, FitLoop loop, FitHistory history, IReadOnlyDictionary<string, float[]>? best)
    {
        var writer = new SafetensorsWriter();
        writer.AddMetadata("run", run);
        writer.AddMetadata("state", JsonSerializer.Serialize(new State(loop.Step, loop.Smooth, loop.Tail, history)));
        void Add(string name, Tensor value) => writer.AddFloats(name, value.shape, () => Weights.Floats(value));
        foreach (var (name, value) in RunFolder.Fitted(model))
        {
            Add(RunFolder.NameInFile(name), value);
            if (best is not null)
                writer.AddFloats("best." + RunFolder.NameInFile(name), value.shape, () => best[name]);
        }
        var moments = loop.Moments;
        string[] names = Names(model);
        for (int i = 0; i < names.Length; i++)
        {
            Add("optimizer.exp_avg." + names[i], moments[i].exp_avg);
            Add("optimizer.exp_avg_sq." + names[i], moments[i].exp_avg_sq);
        }
        writer.AddIntegers("optimizer.step", [names.Length], [.. moments.Select(m => m.step)]);
        writer.Save(path);
    }

    /// <summary>Takes a fit to where the checkpoint was made; null where there is none.</summary>
    /// <returns>What happened until then, and the best weights where they are kept.</returns>
    /// <exception cref="InputException">Damaged, or of another run.</exception>
    public (FitHistory History, Dictionary<string, float[]>? Best)? Load(PcrlModel model, FitLoop loop)
    {
        if (!File.Exists(path))
            return null;
        using var file = SafetensorsFile.Open(path);
        State? state = null;
        try
        {
            if (file.Metadata.TryGetValue("state", out string? text))
                state = JsonSerializer.Deserialize<State>(text);
        }
        catch (JsonException)
        {
            // told below
        }
        if (state?.History is null || !file.Metadata.TryGetValue("run", out string? from))
            throw new InputException(path, "is not a checkpoint of a fit");
        if (from != run)
            throw new InputException(path, "belongs to another configuration or other data; without --resume the fit begins anew");
        var fitted = RunFolder.Fitted(model).ToList();
        var moments = loop.Moments;
        string[] names = Names(model);
        Weights.Load(file, [
            .. fitted.Select(w => (RunFolder.NameInFile(w.Name), w.Value)),
            .. names.Select((name, i) => ("optimizer.exp_avg." + name, moments[i].exp_avg)),
            .. names.Select((name, i) => ("optimizer.exp_avg_sq." + name, moments[i].exp_avg_sq))]);
        long[] steps = file.ReadIntegers("optimizer.step");
        if (steps.Length != names.Length)
            throw new InputException(path, $"counts steps of {steps.Length} parameters, {names.Length} are trained");
        for (int i = 0; i < names.Length; i++)
            moments[i].step = steps[i];
        loop.Resume(state.Step, state.Smooth, state.Tail);
        bool best = fitted.Exists(w => file.Names.Contains("best." + RunFolder.NameInFile(w.Name)));
        return (state.History, best ? fitted.ToDictionary(w => w.Name, w => file.ReadFloats("best." + RunFolder.NameInFile(w.Name))) : null);
    }

    /// <summary>Names of what is trained, in the optimizer's order.</summary>
    private static string[] Names(PcrlModel model) => [.. model.named_parameters().Where(p => p.parameter.requires_grad).Select(p => RunFolder.NameInFile(p.name))];
}
