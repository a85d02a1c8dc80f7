using Pcrl.Kernels;
using Pcrl.Runtime.Bundles;

namespace Pcrl.Runtime.Vision;

/// <summary>Reads <c>visual.gguf</c>: float32 weights of the visual path under their training names, BatchNorm folded.</summary>
public static class VisualGguf
{
    /// <summary>Our own value of <c>general.architecture</c>; no other program claims to run it.</summary>
    public const string Architecture = "pcrl-visual";

    /// <summary>Builds the encoder; the weights are packed while they are read, and the file is closed again.</summary>
    /// <exception cref="InputException">No such file, another architecture, or a weight that is missing or of another shape than <paramref name="config"/> says.</exception>
    public static VisualEncoder Load(string path, VisualConfig config, Device device, int slices = 24, bool guests = false)
    {
        using var file = GgufFile.Open(path);
        if (file.GetString("general.architecture") is var architecture && architecture != Architecture)
            throw new InputException(path, $"holds a model of architecture '{architecture}', '{Architecture}' was expected");
        string? previous = null;
        return new VisualEncoder(config, Read, device, slices: slices, guests: guests);

        ReadOnlySpan<float> Read(string name, ReadOnlySpan<int> shape)
        {
            if (previous is not null)
                file.Release(previous); // packed by now: else the weights would be in memory twice
            previous = name;
            var tensor = file.Tensor(name);
            if (!tensor.Shape.SequenceEqual(shape.ToArray().Select(d => (long)d)))
                throw new InputException(path, $"tensor {name} has shape [{string.Join(", ", tensor.Shape)}], [{string.Join(", ", shape.ToArray())}] was expected");
            return file.Floats(name);
        }
    }
}
