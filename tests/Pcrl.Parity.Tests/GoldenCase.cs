using System.Text;
using System.Text.Json;
using Pcrl.Train.Checkpoints;

namespace Pcrl.Parity.Tests;

/// <summary>
/// One case of the reference numbers: <c>case.json</c> beside <c>tensors.safetensors</c>.
/// The numbers come from independent programs; the README of the goldens describes the schema.
/// </summary>
public sealed class GoldenCase : IDisposable
{
    private readonly JsonDocument _json;
    private readonly SafetensorsFile? _tensors;

    public GoldenCase(string folder)
    {
        Folder = folder;
        Name = Path.GetFileName(folder);
        _json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(folder, "case.json")));
        string tensors = Path.Combine(folder, "tensors.safetensors");
        if (File.Exists(tensors))
            _tensors = SafetensorsFile.Open(tensors);
    }

    public string Folder { get; }

    public string Name { get; }

    /// <summary>The whole case.json.</summary>
    public JsonElement Json => _json.RootElement;

    public string Op => Json.GetProperty("op").GetString()!;

    public JsonElement Config => Json.GetProperty("config");

    public ulong Seed => Json.GetProperty("seed").GetUInt64();

    public double RelativeTolerance => Json.GetProperty("tolerance").GetProperty("rtol").GetDouble();

    public double AbsoluteTolerance => Json.GetProperty("tolerance").GetProperty("atol").GetDouble();

    public bool Has(string tensor) => _tensors?.Tensors.ContainsKey(tensor) == true;

    public IEnumerable<string> TensorNames => _tensors?.Tensors.Keys ?? [];

    public long[] Shape(string tensor) => _tensors!.Entry(tensor).Shape;

    public float[] Floats(string tensor) => _tensors!.ReadFloats(tensor);

    public long[] Integers(string tensor) => _tensors!.ReadIntegers(tensor);

    /// <summary>All tensors that the fill rule describes under <paramref name="section"/> (<c>weights</c> or <c>filled_inputs</c>).</summary>
    public Dictionary<string, (long[] Shape, float[] Values)> Filled(string section)
    {
        var filled = new Dictionary<string, (long[], float[])>();
        foreach (var row in Json.GetProperty(section).GetProperty("rows").EnumerateArray())
        {
            string name = row[0].GetString()!;
            long[] shape = [.. row[1].EnumerateArray().Select(d => d.GetInt64())];
            filled[name] = (shape, Fill(Seed, name, shape.Aggregate(1L, (a, b) => a * b), row[2].GetString()!, row[3].GetDouble(), row[4].GetDouble()));
        }
        return filled;
    }

    /// <summary>The fill rule of the goldens' README: SplitMix64 from seed + FNV-1a of the name.</summary>
    public static float[] Fill(ulong seed, string name, long count, string mode, double scale, double offset)
    {
        ulong hash = 0xcbf29ce484222325;
        foreach (byte b in Encoding.UTF8.GetBytes(name))
            hash = (hash ^ b) * 0x100000001b3;
        var values = new float[count];
        for (long i = 0; i < count; i++)
        {
            ulong z = seed + hash + (ulong)(i + 1) * 0x9E3779B97F4A7C15;
            z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
            z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
            z ^= z >> 31;
            double u = (z >> 40) / 16777216.0 * 2 - 1;
            values[i] = (float)((mode == "abs" ? Math.Abs(u) : u) * scale + offset);
        }
        return values;
    }

    /// <summary>
    /// Compares a whole output with what the case stores of it: the tensor itself, or, under <c>sampled_outputs</c>, a strided
    /// sample and whole-tensor statistics.
    /// </summary>
    /// <param name="output">Name without the <c>out.</c>.</param>
    /// <param name="got">Row-major values in the layout of the reference.</param>
    public void AssertOutput(string output, ReadOnlySpan<float> got)
    {
        if (Has($"out.{output}"))
        {
            AssertClose(output, Floats($"out.{output}"), got);
            return;
        }
        var sampling = Json.GetProperty("sampled_outputs").GetProperty(output);
        int start = sampling.GetProperty("start").GetInt32(), stride = sampling.GetProperty("stride").GetInt32();
        float[] expected = Floats($"out.{output}.sample");
        long size = sampling.GetProperty("shape").EnumerateArray().Aggregate(1L, (a, d) => a * d.GetInt64());
        Assert.Equal(size, got.Length);
        var sample = new float[expected.Length];
        for (int i = 0; i < sample.Length; i++)
            sample[i] = got[start + i * stride];
        AssertClose(output + ".sample", expected, sample);
        double sumOfAbsolutes = 0;
        foreach (float value in got)
            sumOfAbsolutes += Math.Abs((double)value);
        if (sampling.TryGetProperty("sum_abs", out var reference))
            Assert.InRange(sumOfAbsolutes, reference.GetDouble() - Slack(reference.GetDouble(), size), reference.GetDouble() + Slack(reference.GetDouble(), size));
    }

    private double Slack(double sumOfAbsolutes, long size) => RelativeTolerance * sumOfAbsolutes + AbsoluteTolerance * size;

    /// <summary>|got − expected| ≤ atol + rtol·|expected| for every element; the worst one is named on failure. NaN never passes.</summary>
    public void AssertClose(string what, ReadOnlySpan<float> expected, ReadOnlySpan<float> got)
    {
        Assert.Equal(expected.Length, got.Length);
        double worst = -1;
        int where = -1;
        for (int i = 0; i < expected.Length; i++)
        {
            if (expected[i].Equals(got[i]))
                continue; // equal infinities
            double error = Math.Abs((double)got[i] - expected[i]);
            double excess = error / (AbsoluteTolerance + RelativeTolerance * Math.Abs((double)expected[i]));
            if (!(excess <= worst))
                (worst, where) = (excess, i);
        }
        Assert.True(worst <= 1, where < 0 ? what : $"{Name}: {what}[{where}] is {got[where]:R}, expected {expected[where]:R} ({worst:0.##} × the tolerance)");
    }

    public void Dispose()
    {
        _tensors?.Dispose();
        _json.Dispose();
    }
}
