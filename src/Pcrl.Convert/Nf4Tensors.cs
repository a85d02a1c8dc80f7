using Pcrl.Train.Checkpoints;
using Pcrl.Train.Quantisation;
using TorchSharp;

namespace Pcrl.Convert;

/// <summary>
/// A language model's checkpoint as the trainer sees it over an NF4 base: the matrices of the decoder layers rounded to NF4 with double quantisation, all
/// else as it is. One matrix is kept at a time.
/// </summary>
internal sealed class Nf4Tensors(ITensorSource exact) : ITensorSource
{
    private readonly Lock _lock = new();
    private string? _name;
    private float[] _values = [];

    public string Path => $"{exact.Path} (NF4)";

    public IReadOnlyCollection<string> Names => exact.Names;

    public IReadOnlyList<long> Shape(string name) => exact.Shape(name);

    public float[] ReadFloats(string name) => IsRounded(name) ? (float[])Rounded(name).Clone() : exact.ReadFloats(name);

    public void ReadFloats(string name, long first, Span<float> values)
    {
        if (IsRounded(name))
            Rounded(name).AsSpan(checked((int)first), values.Length).CopyTo(values);
        else
            exact.ReadFloats(name, first, values);
    }

    private bool IsRounded(string name) => name.Contains(".layers.", StringComparison.Ordinal) && exact.Shape(name).Count == 2;

    private float[] Rounded(string name)
    {
        lock (_lock)
        {
            if (_name != name)
            {
                var shape = exact.Shape(name);
                using var weight = new Nf4Weight(shape[0], shape[1]);
                weight.Set(exact.ReadFloats(name));
                using var rounded = weight.Dequantise(torch.ScalarType.Float32);
                (_name, _values) = (name, rounded.data<float>().ToArray());
            }
            return _values;
        }
    }

    public long[] ReadIntegers(string name) => exact.ReadIntegers(name);

    public void Dispose()
    {
    }
}
