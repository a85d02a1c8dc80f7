using Pcrl.Kernels;
using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Pooling;

namespace Pcrl.Runtime.Vision;

/// <summary>
/// The ResNet trunk and the pooling behind it (§3.1): slices → grid features G and pooled features P. As many slices go through at a time as
/// the device likes; on the CPU that is few, of small models few in each thread, and memory does not grow with their number.
/// </summary>
public sealed unsafe class VisualTrunk : IDisposable
{
    private const string Stem = "trunk.conv1";

    /// <summary>Slices that a lane takes at once: more gain nothing.</summary>
    private const int MostInLane = 4;

    private readonly VisualConfig _config;
    private readonly Device _device;
    private readonly Network _network;
    private readonly Tensor[] _images; // for each lane [chunk, S, S, 1], in colour 3
    private readonly Network.Value _features; // [chunk, h, w, C]
    private readonly Layer _gridPool;
    private readonly Layer _globalPool;
    private readonly Tensor[] _gridChunks;
    private readonly Tensor[] _pooledChunks;
    private readonly Action<int, int> _runChunk;

    private float* _study; // of the run
    private CancellationToken _cancellation; // of the run

    /// <param name="config">Dimensions.</param>
    /// <param name="weights">Gives the tensors <c>trunk.*</c>, BatchNorm folded.</param>
    /// <param name="device">Where it runs.</param>
    /// <param name="slices">Slices per study.</param>
    /// <param name="colour">Whether the slices come with three channels, normalised, in place of grey.</param>
    /// <exception cref="InputException">The config is impossible, or a weight is missing or misshapen.</exception>
    public VisualTrunk(VisualConfig config, WeightReader weights, Device device, int slices = 24, bool colour = false)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(slices);
        if (config.Problem() is { } problem)
            throw new InputException("visual config", problem);
        (_config, _device) = (config, device);
        Slices = slices;
        (int lanes, int chunk) = Plan(config, device, slices);
        var shape = new Shape(chunk, config.ImageSize, config.ImageSize, colour ? config.Mean.Count : 1);
        _images = [.. Enumerable.Range(0, lanes).Select(_ => device.NewTensor(shape))];
        var images = Network.Bind(_images);
        var stem = new GreyStem(config);
        _network = new Network(device, colour ? weights : Read, lanes);
        _features = Build(_network, config, colour ? images : _network.Add(stem.Prepare(device, shape), images));
        _network.Allocate([_features]);
        _gridPool = device.Prepare(new AdaptiveAvgPool2d(config.Grid), _features.Shape);
        _globalPool = device.Prepare(new AdaptiveAvgPool2d(1), _features.Shape);
        Grid = device.NewTensor(_gridPool.Output with { N = slices });
        Pooled = device.NewTensor(_globalPool.Output with { N = slices });
        _gridChunks = [.. Enumerable.Range(0, slices / chunk).Select(i => Grid.Images(i * chunk, chunk))];
        _pooledChunks = [.. Enumerable.Range(0, slices / chunk).Select(i => Pooled.Images(i * chunk, chunk))];
        _runChunk = RunChunk;

        ReadOnlySpan<float> Read(string name, ReadOnlySpan<int> shape) => name == $"{Stem}.weight"
            ? stem.Fold(weights(name, [shape[0], config.Mean.Count, shape[2], shape[3]]), shape[2] * shape[3])
            : weights(name, shape);
    }

    /// <summary>Slices per study.</summary>
    public int Slices { get; }

    /// <summary>G of the last run: [slices, Grid, Grid, C].</summary>
    public Tensor Grid { get; }

    /// <summary>P of the last run: [slices, 1, 1, C].</summary>
    public Tensor Pooled { get; }

    /// <summary>The layers; idle once a run has ended.</summary>
    internal Network Network => _network;

    /// <summary>Runs the slices of a study.</summary>
    /// <param name="slices">[slices, S, S], grey in 0..1; in colour [slices, S, S, 3], normalised.</param>
    /// <param name="cancellation">Looked at between layers.</param>
    public void Run(ReadOnlySpan<float> slices, CancellationToken cancellation = default)
    {
        var shape = _images[0].Shape;
        if (slices.Length != shape.Count * _gridChunks.Length)
            throw new ArgumentException($"{slices.Length} values given, {Slices} slices of {_config.ImageSize}×{_config.ImageSize}×{shape.C} expected");
        _cancellation = cancellation;
        fixed (float* study = slices)
        {
            _study = study;
            if (_images.Length > 1)
                _device.RunLanes(_gridChunks.Length, _runChunk);
            else
                for (int chunk = 0; chunk < _gridChunks.Length; chunk++)
                    RunChunk(chunk, lane: 0);
        }
    }

    /// <summary>Runs the slices that are on the device already, for clocks. They are all of the study only where all go through at once.</summary>
    internal void RunResident() => RunLayers(chunk: 0, lane: 0, CancellationToken.None);

    /// <summary>Frees weights and activations.</summary>
    public void Dispose()
    {
        _network.Dispose();
        _gridPool.Dispose();
        _globalPool.Dispose();
        foreach (var images in _images)
            images.Dispose();
        Grid.Dispose();
        Pooled.Dispose();
    }

    private void RunChunk(int chunk, int lane)
    {
        int size = (int)_images[lane].Shape.Count;
        _images[lane].Write(new(_study + (long)chunk * size, size));
        RunLayers(chunk, lane, _cancellation);
    }

    private void RunLayers(int chunk, int lane, CancellationToken cancellation)
    {
        _network.Run(cancellation, lane);
        var features = _features.Tensors![lane];
        _gridPool.Run(features, _gridChunks[chunk]);
        _globalPool.Run(features, _pooledChunks[chunk]);
    }

    /// <summary>
    /// How the slices go through: some at a time through layers that all threads share, or in lanes, where every thread takes some through all
    /// layers by itself. Sharing a layer costs a meeting of the threads, some four hundred in a study: where layers are small, threads have little
    /// to do between them. Lanes meet once, but each has activations of its own; so they are for models where all together take up no more than
    /// two slices at full size.
    /// </summary>
    private static (int Lanes, int Chunk) Plan(VisualConfig config, Device device, int slices)
    {
        const long MostBytes = 2 * (512 * 512) * 64; // of the largest layer: a quarter of the pixels, four bytes each
        int lanes = device.Lanes;
        if (lanes > 1)
        {
            // As few rounds of as few slices as can be; then together those that can be, for they share the transformed weights and fill tiles better.
            int chunk = Chunks(MostInLane).OrderBy(c => (slices / c + lanes - 1) / lanes * c).ThenByDescending(c => c).First();
            if ((long)config.ImageSize * config.ImageSize * config.Width * chunk * lanes <= MostBytes)
                return (lanes, chunk);
        }
        return (1, Chunks(device.ImagesAtOnce).Last());

        IEnumerable<int> Chunks(int most) => Enumerable.Range(1, Math.Min(most, slices)).Where(c => slices % c == 0);
    }

    private static Network.Value Build(Network network, VisualConfig config, Network.Value images)
    {
        var x = network.Add(Stem, new Conv2d(images.Shape.C, config.Width, 7) { Stride = 2, Padding = 3, Relu = true }, images);
        x = network.Add(new MaxPool2d(3) { Stride = 2, Padding = 1 }, x);
        for (int stage = 0; stage < config.Depths.Count; stage++)
            for (int block = 0; block < config.Depths[stage]; block++)
            {
                string name = $"trunk.layer{stage + 1}.{block}";
                int stride = stage > 0 && block == 0 ? 2 : 1;
                x = config.Block == "bottleneck"
                    ? Bottleneck(network, name, x, config.Width << stage, stride)
                    : ResidualBlocks.Basic(network, name, x, config.Width << stage, stride, downsampleKernel: 1);
            }
        return x;
    }

    /// <summary>1×1, 3×3 (with the stride), 1×1 to four times the width.</summary>
    private static Network.Value Bottleneck(Network network, string name, Network.Value x, int width, int stride)
    {
        const int Expansion = 4;
        int outputs = width * Expansion;
        var y = network.Add($"{name}.conv1", new Conv2d(x.Shape.C, width, 1) { Relu = true }, x);
        y = network.Add($"{name}.conv2", new Conv2d(width, width, 3) { Stride = stride, Padding = 1, Relu = true }, y);
        // After the other two: at the second stage conv1's output is as large as the shortcut's, and they need not be there together.
        var shortcut = stride == 1 && x.Shape.C == outputs
            ? x
            : network.Add($"{name}.downsample", new Conv2d(x.Shape.C, outputs, 1) { Stride = stride }, x);
        return network.Add($"{name}.conv3", new Conv2d(width, outputs, 1) { Relu = true }, y, shortcut);
    }
}
