using Pcrl.Runtime.Vision;

namespace Pcrl.Bench;

/// <summary>The trunk as an ONNX graph.</summary>
internal sealed class OnnxTrunkGraph
{
    private readonly bool _calibrate;
    private readonly WeightReader? _weights;
    private readonly Dictionary<string, float>? _ranges;
    private readonly Dictionary<string, float> _scales = []; // of values that came out of 8 bits

    /// <param name="config">Dimensions.</param>
    /// <param name="batch">Slices at once.</param>
    /// <param name="weights">For int8 only: weights to round now.</param>
    /// <param name="ranges">Largest magnitude of each activation: makes the graph an int8 one.</param>
    /// <param name="calibrate">Adds those magnitudes to the outputs.</param>
    public OnnxTrunkGraph(VisualConfig config, int batch, WeightReader? weights = null, Dictionary<string, float>? ranges = null, bool calibrate = false)
    {
        (_calibrate, _weights, _ranges) = (calibrate, weights, ranges);
        string x = Activation("images", File.Input("images", batch, 3, config.ImageSize, config.ImageSize), signed: true);
        x = Relu("trunk.conv1", Convolution("trunk.conv1", x, 3, config.Width, 7, stride: 2, padding: 3));
        // A maximum of rounded values is one of them: the same scale holds.
        x = Activation("trunk.conv1", File.Node("MaxPool", [x], ("kernel_shape", [3, 3]), ("strides", [2, 2]), ("pads", [1, 1, 1, 1])), signed: false);
        int channels = config.Width, side = config.ImageSize / 4;
        for (int stage = 0; stage < config.Depths.Count; stage++)
            for (int block = 0; block < config.Depths[stage]; block++)
            {
                string name = $"trunk.layer{stage + 1}.{block}";
                int stride = stage > 0 && block == 0 ? 2 : 1, width = config.Width << stage, outputs = width * 4;
                side /= stride;
                string shortcut = block > 0 ? x : Activation($"{name}.downsample", Convolution($"{name}.downsample", x, channels, outputs, 1, stride), signed: true);
                x = Relu($"{name}.conv1", Convolution($"{name}.conv1", x, channels, width, 1));
                x = Relu($"{name}.conv2", Convolution($"{name}.conv2", x, width, width, 3, stride, padding: 1));
                x = Activation($"{name}.conv3", Convolution($"{name}.conv3", x, width, outputs, 1), signed: true);
                x = Relu(name, File.Node("Add", [x, shortcut]));
                channels = outputs;
            }
        File.Output(AdaptivePool(x, side, config.Grid), batch, channels, config.Grid, config.Grid);
        File.Output(File.Node("GlobalAveragePool", [x]), batch, channels, 1, 1);
        foreach (string magnitude in _magnitudes)
            File.Output(magnitude);
    }

    private readonly List<string> _magnitudes = [];

    public OnnxFile File { get; } = new();

    /// <summary>Names of the activations, in the order of their magnitudes.</summary>
    public List<string> Activations { get; } = [];

    private string Relu(string name, string x) => Activation(name, File.Node("Relu", [x]), signed: false);

    /// <summary>A value that is kept in 8 bits where the graph is an int8 one.</summary>
    private string Activation(string name, string x, bool signed)
    {
        if (_calibrate && !Activations.Contains(name))
        {
            Activations.Add(name);
            _magnitudes.Add(File.Node("ReduceMax", [File.Node("Abs", [x])], ("keepdims", [0])));
        }
        if (_ranges is null)
            return x;
        float scale = _ranges[name] / (signed ? 127 : 255);
        string[] rounding = [File.Constant($"{x}.scale", [scale], []), File.Constant($"{x}.zero", [(byte)(signed ? 128 : 0)], [])];
        string result = File.Node("DequantizeLinear", [File.Node("QuantizeLinear", [x, .. rounding]), .. rounding]);
        _scales[result] = scale;
        return result;
    }

    private string Convolution(string name, string x, int inputs, int outputs, int kernel, int stride = 1, int padding = 0) => _ranges is null
        ? File.Convolution(name, x, inputs, outputs, kernel, stride, padding)
        : File.Convolution(Rounded(name, _scales[x], [outputs, inputs, kernel, kernel]), x, kernel, stride, padding);

    /// <summary>Weights in int8 with a scale for each output channel, biases in int32 with the scale of the products.</summary>
    private (string Weight, string Bias) Rounded(string name, float inputScale, int[] shape)
    {
        int outputs = shape[0];
        float[] weight = _weights!($"{name}.weight", shape).ToArray(), bias = _weights($"{name}.bias", [outputs]).ToArray();
        int each = weight.Length / outputs;
        float[] scales = [.. Enumerable.Range(0, outputs).Select(o => Math.Max(1e-12f, weight.AsSpan(o * each, each).ToArray().Max(MathF.Abs) / 127))];
        float[] products = [.. scales.Select(s => s * inputScale)];
        return (Dequantized("weight", [.. weight.Select((w, i) => (sbyte)MathF.Round(w / scales[i / each]))], shape, scales),
            Dequantized("bias", [.. bias.Select((b, o) => (int)MathF.Round(b / products[o]))], [outputs], products));

        string Dequantized<T>(string part, T[] values, int[] shape, float[] scale) where T : unmanaged => File.Node("DequantizeLinear",
        [
            File.Constant($"{name}.{part}", values, [.. shape.Select(d => (long)d)]), File.Constant($"{name}.{part}.scale", scale, [outputs]),
            File.Constant($"{name}.{part}.zero", new T[outputs], [outputs]),
        ], ("axis", [0]));
    }

    /// <summary>ONNX has no adaptive pooling; where all cells have one size it is a pooling with stride 1 of which some rows and columns are taken.</summary>
    private string AdaptivePool(string x, int side, int grid)
    {
        long[] first = [.. Enumerable.Range(0, grid).Select(i => (long)i * side / grid)];
        int[] sizes = [.. Enumerable.Range(0, grid).Select(i => (int)(((i + 1) * side + grid - 1) / grid - first[i])).Distinct()];
        if (sizes.Length != 1)
            throw new NotSupportedException($"{side}×{side} features have cells of several sizes on a {grid}×{grid} grid, which ONNX cannot pool");
        x = File.Node("AveragePool", [x], ("kernel_shape", [sizes[0], sizes[0]]), ("strides", [1, 1]));
        string cells = File.Constant("cells", first, [first.Length]);
        return File.Node("Gather", [File.Node("Gather", [x, cells], ("axis", [2])), cells], ("axis", [3]));
    }
}
