using Microsoft.ML.OnnxRuntime;
using Pcrl.Runtime.Vision;

namespace Pcrl.Bench;

/// <summary>The visual path as a user of ONNX Runtime would run it: two graphs, the trunk and the branches behind it.</summary>
internal sealed class OnnxEncoder : IDisposable
{
    private readonly OnnxTrunk _trunk;
    private readonly InferenceSession _branches;
    private readonly OrtValue[] _features;
    private readonly OrtValue[] _tokens;
    private readonly RunOptions _options = new();

    public OnnxEncoder(VisualConfig config, WeightReader weights, ReadOnlySpan<float> slices, int batch, int threads)
    {
        int count = slices.Length / (config.ImageSize * config.ImageSize), channels = config.FeatureChannels;
        _trunk = new OnnxTrunk(config, weights, slices, batch, threads);
        _branches = Branches(config, count).Open(weights, threads);
        _features =
        [
            OrtValue.CreateTensorValueFromMemory(_trunk.Grid, [count, channels, config.Grid, config.Grid]),
            OrtValue.CreateTensorValueFromMemory(_trunk.Pooled, [count, channels, 1, 1]),
        ];
        Local = new float[count * config.TokenWidth];
        Global = new float[count * config.TokenWidth];
        _tokens = [OrtValue.CreateTensorValueFromMemory(Local, [count, config.TokenWidth]), OrtValue.CreateTensorValueFromMemory(Global, [count, config.TokenWidth])];
    }

    /// <summary>Local tokens [slices, D] of the last run.</summary>
    public float[] Local { get; }

    /// <summary>Global tokens [slices, D] of the last run.</summary>
    public float[] Global { get; }

    public void RunTrunk() => _trunk.Run();

    public void RunBranches() => _branches.Run(_options, ["grid", "pooled"], _features, _branches.OutputNames, _tokens);

    /// <summary>Every weight of the visual path with its shape.</summary>
    public static IEnumerable<(string Name, int[] Shape)> Weights(VisualConfig config) => [.. new OnnxTrunkGraph(config, 1).File.Weights, .. Branches(config, 1).Weights];

    public void Dispose()
    {
        _trunk.Dispose();
        _branches.Dispose();
        foreach (var value in (OrtValue[])[.. _features, .. _tokens])
            value.Dispose();
        _options.Dispose();
    }

    private static OnnxFile Branches(VisualConfig config, int slices)
    {
        int channels = config.FeatureChannels, width = config.TokenWidth;
        var onnx = new OnnxFile();
        string grid = onnx.Input("grid", slices, channels, config.Grid, config.Grid), pooled = onnx.Input("pooled", slices, channels, 1, 1);
        string shortcut = onnx.Convolution("local_res.0.downsample", grid, channels, channels, 2, stride: 2);
        string v = onnx.Node("Relu", [onnx.Convolution("local_res.0.conv1", grid, channels, channels, 3, stride: 2, padding: 1)]);
        v = onnx.Node("Relu", [onnx.Node("Add", [onnx.Convolution("local_res.0.conv2", v, channels, channels, 3, padding: 1), shortcut])]);
        string y = onnx.Node("Relu", [onnx.Convolution("local_res.1.conv1", v, channels, channels, 3, padding: 1)]);
        v = onnx.Node("Relu", [onnx.Node("Add", [onnx.Convolution("local_res.1.conv2", y, channels, channels, 3, padding: 1), v])]);
        onnx.Output(Linear(onnx, "local_visual_projector", onnx.Node("Flatten", [onnx.Node("GlobalAveragePool", [v])]), channels, width), slices, width);
        string global = Linear(onnx, "global_visual_projector.0", onnx.Node("Flatten", [pooled]), channels, width);
        onnx.Output(Linear(onnx, "global_visual_projector.1", global, width, width), slices, width);
        return onnx;
    }

    private static string Linear(OnnxFile onnx, string name, string x, int inputs, int outputs) =>
        onnx.Node("Gemm", [x, onnx.Weight($"{name}.weight", outputs, inputs), onnx.Weight($"{name}.bias", outputs)], ("transB", [1]));
}
