using Pcrl.Runtime.Vision;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Pcrl.Bench;

/// <summary>
/// The visual path as a user of libtorch would run it on the CPU: functions of TorchSharp in channels-last order, BatchNorm folded, no gradients. Only
/// in a build with <c>-p:TorchPeer=true</c>, for libtorch is several hundred megabytes.
/// </summary>
internal sealed class TorchSharpEncoder : IDisposable
{
    private readonly VisualConfig _config;
    private readonly WeightReader _read;
    private readonly ScalarType _type;
    private readonly Dictionary<string, Tensor> _weights = [];
    private readonly List<Tensor> _slices; // [1, 3, S, S]
    private readonly Tensor?[] _grid, _pooled;

    public TorchSharpEncoder(VisualConfig config, WeightReader weights, ReadOnlySpan<float> slices, int threads, ScalarType type = ScalarType.Float32)
    {
        TorchDevice.Configure(threads, seed: 0);
        (_config, _read, _type) = (config, weights, type);
        _slices = [.. OnnxTrunk.Normalised(config, slices, batch: 1).Select(s => ChannelsLast(tensor(s, [1, 3, config.ImageSize, config.ImageSize])))];
        (_grid, _pooled) = (new Tensor?[_slices.Count], new Tensor?[_slices.Count]);
    }

    /// <summary>Pooled features [slices, C] of the last run.</summary>
    public float[] Pooled => [.. _pooled.SelectMany(p => p!.to(ScalarType.Float32).data<float>().ToArray())];

    /// <summary>Tokens of the last run, local ones first.</summary>
    public float[] Tokens { get; private set; } = [];

    public void RunTrunk()
    {
        using var mode = inference_mode();
        for (int i = 0; i < _slices.Count; i++)
        {
            using var scope = NewDisposeScope();
            var x = F.relu(Convolution("trunk.conv1", _slices[i], 3, _config.Width, 7, stride: 2, padding: 3));
            x = F.max_pool2d(x, 3, 2, 1);
            int channels = _config.Width;
            for (int stage = 0; stage < _config.Depths.Count; stage++)
                for (int block = 0; block < _config.Depths[stage]; block++)
                {
                    string name = $"trunk.layer{stage + 1}.{block}";
                    int stride = stage > 0 && block == 0 ? 2 : 1, width = _config.Width << stage, outputs = width * 4;
                    var shortcut = block == 0 ? Convolution($"{name}.downsample", x, channels, outputs, 1, stride) : x;
                    x = Convolution($"{name}.conv1", x, channels, width, 1).relu_();
                    x = Convolution($"{name}.conv2", x, width, width, 3, stride, padding: 1).relu_();
                    x = Convolution($"{name}.conv3", x, width, outputs, 1).add_(shortcut).relu_();
                    channels = outputs;
                }
            _grid[i]?.Dispose();
            _pooled[i]?.Dispose();
            _grid[i] = F.adaptive_avg_pool2d(x, _config.Grid).DetachFromDisposeScope();
            _pooled[i] = F.adaptive_avg_pool2d(x, 1).DetachFromDisposeScope();
        }
    }

    public void RunBranches()
    {
        using var mode = inference_mode();
        using var scope = NewDisposeScope();
        int channels = _config.FeatureChannels, width = _config.TokenWidth;
        var grid = cat(_grid!);
        var v = Convolution("local_res.0.conv1", grid, channels, channels, 3, stride: 2, padding: 1).relu_();
        v = Convolution("local_res.0.conv2", v, channels, channels, 3, padding: 1).add_(Convolution("local_res.0.downsample", grid, channels, channels, 2, stride: 2)).relu_();
        var y = Convolution("local_res.1.conv1", v, channels, channels, 3, padding: 1).relu_();
        v = Convolution("local_res.1.conv2", y, channels, channels, 3, padding: 1).add_(v).relu_();
        var local = Linear("local_visual_projector", F.adaptive_avg_pool2d(v, 1).flatten(1), channels, width);
        var global = Linear("global_visual_projector.1", Linear("global_visual_projector.0", cat(_pooled!).flatten(1), channels, width), width, width);
        Tokens = [.. cat([local, global]).to(ScalarType.Float32).contiguous().data<float>()];
    }

    public void Dispose()
    {
        foreach (var tensor in _weights.Values.Concat(_slices).Concat(_grid.OfType<Tensor>()).Concat(_pooled.OfType<Tensor>()))
            tensor.Dispose();
    }

    private Tensor Convolution(string name, Tensor x, int inputs, int outputs, int kernel, int stride = 1, int padding = 0) =>
        F.conv2d(x, Weight($"{name}.weight", outputs, inputs, kernel, kernel), Weight($"{name}.bias", outputs), [stride, stride], [padding, padding]);

    private Tensor Linear(string name, Tensor x, int inputs, int outputs) => F.linear(x, Weight($"{name}.weight", outputs, inputs), Weight($"{name}.bias", outputs));

    /// <summary>Read when it is first asked for, then kept.</summary>
    private Tensor Weight(string name, params int[] shape)
    {
        if (_weights.TryGetValue(name, out var weight))
            return weight;
        var values = tensor(_read(name, shape).ToArray(), [.. shape.Select(d => (long)d)]);
        return _weights[name] = shape.Length == 4 ? ChannelsLast(values) : values.to(_type).DetachFromDisposeScope();
    }

    /// <summary>The same values with the channels innermost in memory, in this object's type.</summary>
    private Tensor ChannelsLast(Tensor x) => x.to(_type).permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2).DetachFromDisposeScope();
}
