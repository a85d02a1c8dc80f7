using Pcrl.Kernels;
using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Pooling;

namespace Pcrl.Runtime.Vision;

/// <summary>
/// The ResNet trunk and the pooling behind it (§3.1): slices → grid features G and pooled features P. As many slices go through at a time as
/// the device likes; on the CPU that is few (<see cref="Passage"/>), and memory does not grow with their number.
/// </summary>
public sealed unsafe class VisualTrunk : IDisposable
{
    private const string Stem = "trunk.conv1";

    private readonly VisualConfig _config;
    private readonly Network _network;
    private readonly Tensor[]? _grey; // for each lane [chunk, S, S, 1], unless in colour
    private readonly Layer? _spread; // from there to the input
    private readonly Tensor[] _input; // for each lane [chunk, S, S, 2 or 3]
    private readonly float*[] _studies; // those on their way

    /// <param name="config">Dimensions.</param>
    /// <param name="weights">Gives the tensors <c>trunk.*</c>, BatchNorm folded.</param>
    /// <param name="device">Where it runs.</param>
    /// <param name="slices">Slices per study.</param>
    /// <param name="colour">Whether the slices come with three channels, normalised, in place of grey.</param>
    /// <param name="guests">Whether there is to be room for guests (<see cref="Passage"/>).</param>
    /// <exception cref="InputException">The config is impossible, or a weight is missing or misshapen.</exception>
    public VisualTrunk(VisualConfig config, WeightReader weights, Device device, int slices = 24, bool colour = false, bool guests = false)
    {
        ArgumentOutOfRangeException.ThrowIfNegativeOrZero(slices);
        if (config.Problem() is { } problem)
            throw new InputException("visual config", problem);
        _config = config;
        Slices = slices;
        var passage = Passage.Of(config, device, slices, guests).Trunk;
        var shape = new Shape(passage.Chunk, config.ImageSize, config.ImageSize, colour ? config.Mean.Count : GreyStem.Channels);
        var stem = new GreyStem(config);
        _input = Lanes(shape);
        if (!colour)
        {
            _grey = Lanes(shape with { C = 1 });
            _spread = stem.Prepare(device, shape with { C = 1 });
        }
        _network = new Network(device, colour ? weights : Read, passage, Load);
        var features = Build(_network, config, Network.BindLanes(_input));
        _studies = new float*[passage.Studies];
        Grids = Studies(new Shape(slices, config.Grid, config.Grid, features.Shape.C));
        Pools = Studies(new Shape(slices, 1, 1, features.Shape.C));
        _network.Add(new AdaptiveAvgPool2d(config.Grid), features, into: _network.BindStudies(Grids));
        _network.Add(new AdaptiveAvgPool2d(1), features, into: _network.BindStudies(Pools));
        _network.Allocate();

        Tensor[] Lanes(Shape shape) => [.. Enumerable.Range(0, passage.AllLanes).Select(_ => device.NewTensor(shape))];

        Tensor[] Studies(Shape shape) => [.. Enumerable.Range(0, passage.Studies).Select(_ => device.NewTensor(shape))];

        ReadOnlySpan<float> Read(string name, ReadOnlySpan<int> shape) => name == $"{Stem}.weight"
            ? stem.Fold(weights(name, [shape[0], config.Mean.Count, shape[2], shape[3]]), shape[2] * shape[3])
            : weights(name, shape);
    }

    /// <summary>Slices per study.</summary>
    public int Slices { get; }

    /// <summary>G of the last run that had all threads: [slices, Grid, Grid, C].</summary>
    public Tensor Grid => Grids[0];

    /// <summary>P of the last run that had all threads: [slices, 1, 1, C].</summary>
    public Tensor Pooled => Pools[0];

    /// <summary>G of each study on its way.</summary>
    internal Tensor[] Grids { get; }

    /// <summary>P of each study on its way.</summary>
    internal Tensor[] Pools { get; }

    /// <summary>The layers; idle once all runs have ended.</summary>
    internal Network Network => _network;

    /// <summary>Runs the slices of a study.</summary>
    /// <param name="slices">[slices, S, S], grey in 0..1; in colour [slices, S, S, 3], normalised.</param>
    /// <param name="cancellation">Looked at between layers.</param>
    public void Run(ReadOnlySpan<float> slices, CancellationToken cancellation = default) => Run(0, slices, cancellation);

    /// <summary>Runs the slices of one of the studies on their way; see <see cref="Network.Run"/>.</summary>
    internal void Run(int number, ReadOnlySpan<float> slices, CancellationToken cancellation)
    {
        var shape = (_grey ?? _input)[0].Shape with { N = Slices };
        if (slices.Length != shape.Count)
            throw new ArgumentException($"{slices.Length} values given, {Slices} slices of {_config.ImageSize}×{_config.ImageSize}×{shape.C} expected");
        fixed (float* study = slices)
        {
            _studies[number] = study;
            _network.Run(number, cancellation);
        }
    }

    /// <summary>Runs the slices that are on the device already, for clocks. They are all of the study only where all go through at once.</summary>
    internal void RunResident()
    {
        Spread(lane: 0);
        _network.RunResident();
    }

    /// <summary>Frees weights and activations.</summary>
    public void Dispose()
    {
        _network.Dispose();
        _spread?.Dispose();
        foreach (var tensor in (Tensor[])[.. _input, .. _grey ?? [], .. Grids, .. Pools])
            tensor.Dispose();
    }

    private void Load(int study, int chunk, int lane)
    {
        var images = (_grey ?? _input)[lane];
        int size = (int)images.Shape.Count;
        images.Write(new(_studies[study] + (long)chunk * size, size));
        Spread(lane);
    }

    private void Spread(int lane) => _spread?.Run(_grey![lane], _input[lane]);

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
