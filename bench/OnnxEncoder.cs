using Microsoft.ML.OnnxRuntime;
using Pcrl.Runtime.Vision;

namespace Pcrl.Bench;

/// <summary>The visual path as a user of ONNX Runtime would run it: two graphs, the trunk with both poolings and the branches behind it, BatchNorm folded.</summary>
internal sealed class OnnxEncoder : IDisposable
{
    private readonly string _folder;
    private readonly InferenceSession _trunk;
    private readonly InferenceSession _branches;
    private readonly OrtValue[] _batches; // [batch, 3, S, S], normalised
    private readonly OrtValue[] _gridBatches, _pooledBatches;
    private readonly float[] _grid, _pooled;
    private readonly OrtValue[] _features;
    private readonly OrtValue[] _tokens;
    private readonly RunOptions _options = new();

    public OnnxEncoder(VisualConfig config, WeightReader weights, ReadOnlySpan<float> slices, int batch, int threads)
    {
        int count = slices.Length / (config.ImageSize * config.ImageSize), channels = config.FeatureChannels;
        _folder = Directory.CreateTempSubdirectory("pcrl-bench-").FullName;
        using var options = new SessionOptions { IntraOpNumThreads = threads, InterOpNumThreads = 1, GraphOptimizationLevel = GraphOptimizationLevel.ORT_ENABLE_ALL };
        _trunk = Open("trunk.onnx", Trunk(config, batch));
        _branches = Open("branches.onnx", Branches(config, count));
        _grid = new float[(long)count * channels * config.Grid * config.Grid];
        _pooled = new float[(long)count * channels];
        _batches = [.. Normalised(config, slices, batch).Select(b => OrtValue.CreateTensorValueFromMemory(b, [batch, 3, config.ImageSize, config.ImageSize]))];
        _gridBatches = Slices(_grid, [batch, channels, config.Grid, config.Grid]);
        _pooledBatches = Slices(_pooled, [batch, channels, 1, 1]);
        _features =
        [
            OrtValue.CreateTensorValueFromMemory(_grid, [count, channels, config.Grid, config.Grid]),
            OrtValue.CreateTensorValueFromMemory(_pooled, [count, channels, 1, 1]),
        ];
        Local = new float[count * config.TokenWidth];
        Global = new float[count * config.TokenWidth];
        _tokens = [OrtValue.CreateTensorValueFromMemory(Local, [count, config.TokenWidth]), OrtValue.CreateTensorValueFromMemory(Global, [count, config.TokenWidth])];

        InferenceSession Open(string name, OnnxFile graph)
        {
            string path = Path.Combine(_folder, name);
            graph.Save(path, weights);
            var session = new InferenceSession(path, options);
            File.Delete(path);
            return session;
        }

        OrtValue[] Slices(float[] whole, long[] shape)
        {
            int size = (int)shape.Aggregate((a, b) => a * b);
            return [.. Enumerable.Range(0, count / batch).Select(i =>
                OrtValue.CreateTensorValueFromMemory(OrtMemoryInfo.DefaultInstance, whole.AsMemory(i * size, size), shape))];
        }
    }

    /// <summary>Local tokens [slices, D] of the last run.</summary>
    public float[] Local { get; }

    /// <summary>Global tokens [slices, D] of the last run.</summary>
    public float[] Global { get; }

    public void RunTrunk()
    {
        for (int i = 0; i < _batches.Length; i++)
            _trunk.Run(_options, ["images"], [_batches[i]], _trunk.OutputNames, [_gridBatches[i], _pooledBatches[i]]);
    }

    public void RunBranches() => _branches.Run(_options, ["grid", "pooled"], _features, _branches.OutputNames, _tokens);

    /// <summary>Every weight of the visual path with its shape.</summary>
    public static IEnumerable<(string Name, int[] Shape)> Weights(VisualConfig config) => [.. Trunk(config, 1).Weights, .. Branches(config, 1).Weights];

    public void Dispose()
    {
        _trunk.Dispose();
        _branches.Dispose();
        foreach (var value in (OrtValue[])[.. _batches, .. _gridBatches, .. _pooledBatches, .. _features, .. _tokens])
            value.Dispose();
        _options.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private static OnnxFile Trunk(VisualConfig config, int batch)
    {
        var onnx = new OnnxFile();
        string x = onnx.Input("images", batch, 3, config.ImageSize, config.ImageSize);
        x = onnx.Node("Relu", [Convolution(onnx, "trunk.conv1", x, 3, config.Width, 7, stride: 2, padding: 3)]);
        x = onnx.Node("MaxPool", [x], ("kernel_shape", [3, 3]), ("strides", [2, 2]), ("pads", [1, 1, 1, 1]));
        int channels = config.Width, side = config.ImageSize / 4;
        for (int stage = 0; stage < config.Depths.Count; stage++)
            for (int block = 0; block < config.Depths[stage]; block++)
            {
                string name = $"trunk.layer{stage + 1}.{block}";
                int stride = stage > 0 && block == 0 ? 2 : 1, width = config.Width << stage, outputs = width * 4;
                side /= stride;
                string shortcut = block == 0 ? Convolution(onnx, $"{name}.downsample", x, channels, outputs, 1, stride) : x;
                x = onnx.Node("Relu", [Convolution(onnx, $"{name}.conv1", x, channels, width, 1)]);
                x = onnx.Node("Relu", [Convolution(onnx, $"{name}.conv2", x, width, width, 3, stride, padding: 1)]);
                x = onnx.Node("Relu", [onnx.Node("Add", [Convolution(onnx, $"{name}.conv3", x, width, outputs, 1), shortcut])]);
                channels = outputs;
            }
        onnx.Output(AdaptivePool(onnx, x, side, config.Grid), batch, channels, config.Grid, config.Grid);
        onnx.Output(onnx.Node("GlobalAveragePool", [x]), batch, channels, 1, 1);
        return onnx;
    }

    private static OnnxFile Branches(VisualConfig config, int slices)
    {
        int channels = config.FeatureChannels, width = config.TokenWidth;
        var onnx = new OnnxFile();
        string grid = onnx.Input("grid", slices, channels, config.Grid, config.Grid), pooled = onnx.Input("pooled", slices, channels, 1, 1);
        string shortcut = Convolution(onnx, "local_res.0.downsample", grid, channels, channels, 2, stride: 2);
        string v = onnx.Node("Relu", [Convolution(onnx, "local_res.0.conv1", grid, channels, channels, 3, stride: 2, padding: 1)]);
        v = onnx.Node("Relu", [onnx.Node("Add", [Convolution(onnx, "local_res.0.conv2", v, channels, channels, 3, padding: 1), shortcut])]);
        string y = onnx.Node("Relu", [Convolution(onnx, "local_res.1.conv1", v, channels, channels, 3, padding: 1)]);
        v = onnx.Node("Relu", [onnx.Node("Add", [Convolution(onnx, "local_res.1.conv2", y, channels, channels, 3, padding: 1), v])]);
        onnx.Output(Linear(onnx, "local_visual_projector", onnx.Node("Flatten", [onnx.Node("GlobalAveragePool", [v])]), channels, width), slices, width);
        string global = Linear(onnx, "global_visual_projector.0", onnx.Node("Flatten", [pooled]), channels, width);
        onnx.Output(Linear(onnx, "global_visual_projector.1", global, width, width), slices, width);
        return onnx;
    }

    private static string Convolution(OnnxFile onnx, string name, string x, int inputs, int outputs, int kernel, int stride = 1, int padding = 0) =>
        onnx.Node("Conv", [x, onnx.Weight($"{name}.weight", outputs, inputs, kernel, kernel), onnx.Weight($"{name}.bias", outputs)],
            ("kernel_shape", [kernel, kernel]), ("strides", [stride, stride]), ("pads", [padding, padding, padding, padding]));

    private static string Linear(OnnxFile onnx, string name, string x, int inputs, int outputs) =>
        onnx.Node("Gemm", [x, onnx.Weight($"{name}.weight", outputs, inputs), onnx.Weight($"{name}.bias", outputs)], ("transB", [1]));

    /// <summary>ONNX has no adaptive pooling; where all cells have one size it is a pooling with stride 1 of which some rows and columns are taken.</summary>
    private static string AdaptivePool(OnnxFile onnx, string x, int side, int grid)
    {
        long[] first = [.. Enumerable.Range(0, grid).Select(i => (long)i * side / grid)];
        int[] sizes = [.. Enumerable.Range(0, grid).Select(i => (int)(((i + 1) * side + grid - 1) / grid - first[i])).Distinct()];
        if (sizes.Length != 1)
            throw new NotSupportedException($"{side}×{side} features have cells of several sizes on a {grid}×{grid} grid, which ONNX cannot pool");
        x = onnx.Node("AveragePool", [x], ("kernel_shape", [sizes[0], sizes[0]]), ("strides", [1, 1]));
        string cells = onnx.Constant("cells", first);
        return onnx.Node("Gather", [onnx.Node("Gather", [x, cells], ("axis", [2])), cells], ("axis", [3]));
    }

    private static List<float[]> Normalised(VisualConfig config, ReadOnlySpan<float> slices, int batch)
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
}
