using Pcrl.Runtime;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Checkpoints;

/// <summary>Moves weights between modules and safetensors files.</summary>
public static class Weights
{
    /// <summary>
    /// Everything that a module's forward pass depends on, by name: parameters and BatchNorm statistics.
    /// (<c>num_batches_tracked</c> is a counter that nothing here reads.)
    /// </summary>
    public static IEnumerable<(string Name, Tensor Value)> Of(Module module) => module.state_dict()
        .Where(pair => !pair.Key.EndsWith("num_batches_tracked", StringComparison.Ordinal))
        .Select(pair => (pair.Key, pair.Value));

    /// <summary>Copies row-major values into a weight of the same shape.</summary>
    /// <exception cref="ArgumentException">The number of values does not fit.</exception>
    public static void Set(Tensor weight, ReadOnlySpan<float> values)
    {
        if (weight.numel() != values.Length)
            throw new ArgumentException($"{values.Length} values for a weight of shape [{string.Join(", ", weight.shape)}]", nameof(values));
        using var nothing = no_grad();
        using var source = tensor(values.ToArray()).reshape(weight.shape);
        weight.copy_(source);
    }

    /// <summary>
    /// Fills <paramref name="weights"/> from a file that must hold each of them in its shape, and, apart from the names that
    /// <paramref name="ignore"/> accepts, nothing else: a checkpoint of another architecture is told by what is missing and what is left over.
    /// </summary>
    /// <param name="file">Any checkpoint.</param>
    /// <param name="weights">Weights by their own names.</param>
    /// <param name="rename">The name a weight has in the file; none: its own.</param>
    /// <param name="ignore">Names in the file that may be left over; none: all may.</param>
    /// <exception cref="InputException">A weight is missing or has another shape, or something unexpected is left over.</exception>
    public static void Load(
        ITensorSource file, IEnumerable<(string Name, Tensor Value)> weights, Func<string, string>? rename = null, Func<string, bool>? ignore = null)
    {
        var wanted = weights.Select(w => (Name: rename?.Invoke(w.Name) ?? w.Name, w.Value)).ToList();
        RequireNames(file, [.. wanted.Select(w => w.Name)], ignore);
        foreach (var (name, value) in wanted)
            Set(value, Read(file, name, value.shape));
    }

    /// <summary>Compares what a file holds with what it must hold.</summary>
    /// <param name="file">Any checkpoint.</param>
    /// <param name="wanted">Names it must hold.</param>
    /// <param name="ignore">Other names that are no reason to refuse it; none: all. Beside missing ones they are named too, last.</param>
    /// <exception cref="InputException">A weight is missing, or something unexpected is left over.</exception>
    public static void RequireNames(ITensorSource file, IReadOnlyCollection<string> wanted, Func<string, bool>? ignore = null)
    {
        bool Ignored(string name) => ignore is null || ignore(name);
        string[] missing = [.. wanted.Except(file.Names)];
        string[] left = [.. file.Names.Except(wanted).Where(name => missing.Length > 0 || !Ignored(name)).OrderBy(Ignored).ThenBy(name => name, StringComparer.Ordinal)];
        if (missing.Length == 0 && left.Length == 0)
            return;
        throw new InputException(file.Path, string.Join("; ", new[]
        {
            missing.Length > 0 ? $"{missing.Length} of {wanted.Count} weights are missing: {Few(missing)}" : "",
            left.Length > 0 ? $"{left.Length} are left over: {Few(left)}" : "",
        }.Where(part => part.Length > 0)));
    }

    /// <summary>One weight of a file.</summary>
    /// <exception cref="InputException">It is missing or has another shape.</exception>
    public static float[] Read(ITensorSource file, string name, long[] shape)
    {
        if (!file.Names.Contains(name))
            throw new InputException(file.Path, $"weight {name} is missing");
        if (!file.Shape(name).SequenceEqual(shape))
        {
            throw new InputException(file.Path, $"tensor {name} has shape [{string.Join(", ", file.Shape(name))}], " +
                $"the configuration asks for [{string.Join(", ", shape)}]");
        }
        return file.ReadFloats(name);
    }

    /// <summary>Names that one line of an error has room for.</summary>
    private const int Named = 5;

    private static string Few(string[] names) =>
        string.Join(", ", names.Take(Named)) + (names.Length > Named ? $" and {names.Length - Named} more" : "");

    /// <summary>Writes weights as F32, in the order given.</summary>
    /// <exception cref="InputException">The file cannot be written.</exception>
    public static void Save(string path, IEnumerable<(string Name, Tensor Value)> weights, IReadOnlyDictionary<string, string>? metadata = null)
    {
        var writer = new SafetensorsWriter();
        foreach (var (key, text) in metadata ?? new Dictionary<string, string>())
            writer.AddMetadata(key, text);
        foreach (var (name, value) in weights)
            writer.AddFloats(name, value.shape, () => Floats(value));
        writer.Save(path);
    }

    /// <summary>The values of a tensor, row-major.</summary>
    public static float[] Floats(Tensor value)
    {
        using var nothing = no_grad();
        using var contiguous = value.to(float32).cpu().contiguous();
        return contiguous.data<float>().ToArray();
    }
}
