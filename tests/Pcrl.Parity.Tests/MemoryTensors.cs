using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;

namespace Pcrl.Parity.Tests;

/// <summary>Tensors that a test makes up.</summary>
internal sealed class MemoryTensors(IReadOnlyDictionary<string, (long[] Shape, float[] Values)> tensors) : ITensorSource
{
    public string Path => "memory";

    public IReadOnlyCollection<string> Names => [.. tensors.Keys];

    private (long[] Shape, float[] Values) Tensor(string name) => tensors.TryGetValue(name, out var tensor) ? tensor : throw new InputException(Path, $"has no tensor {name}");

    public IReadOnlyList<long> Shape(string name) => Tensor(name).Shape;

    public float[] ReadFloats(string name) => Tensor(name).Values;

    public void ReadFloats(string name, long first, Span<float> values) => Tensor(name).Values.AsSpan((int)first, values.Length).CopyTo(values);

    public long[] ReadIntegers(string name) => throw new NotSupportedException();

    public void Dispose()
    {
    }
}
