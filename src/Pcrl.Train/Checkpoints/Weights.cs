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

    /// <summary>Fills <paramref name="weights"/> from a file that must hold each of them in its shape.</summary>
    /// <exception cref="InputException">A weight is missing or has another shape.</exception>
    public static void Load(SafetensorsFile file, IEnumerable<(string Name, Tensor Value)> weights)
    {
        foreach (var (name, value) in weights)
        {
            if (!file.Entry(name).Shape.SequenceEqual(value.shape))
            {
                throw new InputException(file.Path, $"tensor {name} has shape [{string.Join(", ", file.Entry(name).Shape)}], " +
                    $"the configuration asks for [{string.Join(", ", value.shape)}]");
            }
            Set(value, file.ReadFloats(name));
        }
    }

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
