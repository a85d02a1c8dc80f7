using Microsoft.ML.OnnxRuntime;
using Pcrl.Runtime.Vision;

namespace Pcrl.Bench;

/// <summary>
/// The trunk with both poolings as a user of ONNX Runtime would run it, BatchNorm folded: in fp32, or in int8 with a scale for each output channel of
/// the weights and one for each activation, taken from the largest value that the first batch reaches.
/// </summary>
internal sealed class OnnxTrunk : IDisposable
{
    private readonly InferenceSession _session;
    private readonly OrtValue[] _batches; // [batch, 3, S, S], normalised
    private readonly OrtValue[] _gridBatches, _pooledBatches;
    private readonly RunOptions _options = new();

    public OnnxTrunk(VisualConfig config, WeightReader weights, ReadOnlySpan<float> slices, int batch, int threads, bool int8 = false)
    {
        int count = slices.Length / (config.ImageSize * config.ImageSize), channels = config.FeatureChannels;
        Grid = new float[(long)count * channels * config.Grid * config.Grid];
        Pooled = new float[(long)count * channels];
        _batches = [.. Normalised(config, slices, batch).Select(b => OrtValue.CreateTensorValueFromMemory(b, [batch, 3, config.ImageSize, config.ImageSize]))];
        _gridBatches = Slices(Grid, [batch, channels, config.Grid, config.Grid]);
        _pooledBatches = Slices(Pooled, [batch, channels, 1, 1]);
        Dictionary<string, float>? ranges = int8 ? Calibrate(config, weights, batch, threads) : null;
        _session = new OnnxTrunkGraph(config, batch, weights, ranges).File.Open(weights, threads);

        OrtValue[] Slices(float[] whole, long[] shape)
        {
            int size = (int)shape.Aggregate((a, b) => a * b);
            return [.. Enumerable.Range(0, count / batch).Select(i =>
                OrtValue.CreateTensorValueFromMemory(OrtMemoryInfo.DefaultInstance, whole.AsMemory(i * size, size), shape))];
        }
    }

    /// <summary>[slices, C, Grid, Grid] of the last run.</summary>
    public float[] Grid { get; }

    /// <summary>[slices, C] of the last run.</summary>
    public float[] Pooled { get; }

    public void Run()
    {
        for (int i = 0; i < _batches.Length; i++)
            _session.Run(_options, ["images"], [_batches[i]], _session.OutputNames, [_gridBatches[i], _pooledBatches[i]]);
    }

    public void Dispose()
    {
        _session.Dispose();
        foreach (var value in (OrtValue[])[.. _batches, .. _gridBatches, .. _pooledBatches])
            value.Dispose();
        _options.Dispose();
    }

    /// <summary>Slices as the networks of others want them: batches of [batch, 3, S, S].</summary>
    public static List<float[]> Normalised(VisualConfig config, ReadOnlySpan<float> slices, int batch)
    {
        int pixels = config.ImageSize * config.ImageSize;
        var batches = new List<float[]>();
        for (int slice = 0; slice < slices.Length / pixels; slice++)
        {
            if (slice % batch == 0)
                batches.Add(new float[batch * 3 * pixels]);
            for (int c = 0; c < 3; c++)
                for (int p = 0; p < pixels; p++)
                    batches[^1][(slice % batch * 3 + c) * pixels + p] = (slices[slice * pixels + p] - config.Mean[c]) / config.Std[c];
        }
        return batches;
    }

    /// <summary>The largest magnitude of each activation in the first batch.</summary>
    private Dictionary<string, float> Calibrate(VisualConfig config, WeightReader weights, int batch, int threads)
    {
        var graph = new OnnxTrunkGraph(config, batch, calibrate: true);
        using var session = graph.File.Open(weights, threads);
        using var results = session.Run(_options, ["images"], [_batches[0]], session.OutputNames);
        return graph.Activations.Zip(results.Skip(results.Count - graph.Activations.Count)).ToDictionary(p => p.First, p => p.Second.GetTensorDataAsSpan<float>()[0]);
    }
}
