using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Convert;

/// <summary>The weights of a model in memory, read like a checkpoint.</summary>
internal sealed class ModelTensors : ITensorSource
{
    private readonly Dictionary<string, Tensor> _tensors;

    /// <param name="path">Names the model in messages.</param>
    /// <param name="model">Stays its owner's.</param>
    /// <param name="prefix">Of the weights to hand out; their names go without it.</param>
    public ModelTensors(string path, nn.Module model, string prefix = "")
    {
        Path = path;
        _tensors = Weights.Of(model).Where(w => w.Name.StartsWith(prefix, StringComparison.Ordinal)).ToDictionary(w => w.Name[prefix.Length..], w => w.Value);
    }

    public string Path { get; }

    public IReadOnlyCollection<string> Names => _tensors.Keys;

    private Tensor Tensor(string name) => _tensors.TryGetValue(name, out var tensor) ? tensor : throw new InputException(Path, $"the trained model has no weight {name}");

    public IReadOnlyList<long> Shape(string name) => Tensor(name).shape;

    public float[] ReadFloats(string name) => Weights.Floats(Tensor(name));

    public void ReadFloats(string name, long first, Span<float> values)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        Weights.Floats(Tensor(name).reshape(-1).narrow(0, first, values.Length)).CopyTo(values);
    }

    public long[] ReadIntegers(string name)
    {
        using var integers = Tensor(name).to(int64);
        return integers.data<long>().ToArray();
    }

    public void Dispose()
    {
    }
}
