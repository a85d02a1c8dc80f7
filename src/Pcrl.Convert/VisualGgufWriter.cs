using Pcrl.Kernels;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Vision;

namespace Pcrl.Convert;

/// <summary>
/// Writes <c>visual.gguf</c>: the visual path (§3.1 of the paper) under its training names, with every BatchNorm folded into the convolution
/// before it, so that the runtime knows nothing of normalisation.
/// </summary>
public sealed class VisualGgufWriter
{
    private readonly GgufWriter _file = new();
    private readonly string _path;
    private readonly Func<string, float[]> _weights;
    private readonly GgufType _type;

    private VisualGgufWriter(string path, Func<string, float[]> weights, GgufType type)
    {
        _path = path;
        _weights = weights;
        _type = type;
    }

    /// <summary>Writes the file.</summary>
    /// <param name="path">File to write, whole or not at all.</param>
    /// <param name="config">Dimensions; every weight is held to the shape that follows from them.</param>
    /// <param name="weights">Row-major values by training name (<c>trunk.bn1.running_mean</c>, …).</param>
    /// <param name="type">What matrices and convolutions are stored as: F32, F16 or BF16; biases are F32 always.</param>
    /// <exception cref="InputException">A weight is missing, of another size, not finite or beyond the type's range; or the file cannot be written.</exception>
    public static void Write(string path, VisualConfig config, Func<string, float[]> weights, GgufType type = GgufType.F32)
    {
        var writer = new VisualGgufWriter(path, weights, type);
        writer._file.Add("general.architecture", VisualGguf.Architecture);
        int channels = writer.AddTrunk(config);
        writer.AddLocalBranch(channels);
        int width = config.TokenWidth;
        writer.AddLinear("local_visual_projector", channels, width);
        writer.AddLinear("global_visual_projector.0", channels, width);
        writer.AddLinear("global_visual_projector.1", width, width);
        writer._file.Save(path);
    }

    private int AddTrunk(VisualConfig config)
    {
        AddConvolution("trunk.conv1", "trunk.bn1", 3, config.Width, 7);
        int channels = config.Width;
        for (int stage = 0; stage < config.Depths.Count; stage++)
        {
            int planes = config.Width << stage;
            int outputs = config.Block == "bottleneck" ? 4 * planes : planes;
            for (int block = 0; block < config.Depths[stage]; block++)
            {
                string name = $"trunk.layer{stage + 1}.{block}";
                bool reshapes = block == 0 && (stage > 0 || channels != outputs);
                if (config.Block == "bottleneck")
                {
                    AddConvolution($"{name}.conv1", $"{name}.bn1", channels, planes, 1);
                    AddConvolution($"{name}.conv2", $"{name}.bn2", planes, planes, 3);
                    AddConvolution($"{name}.conv3", $"{name}.bn3", planes, outputs, 1);
                }
                else
                {
                    AddConvolution($"{name}.conv1", $"{name}.bn1", channels, planes, 3);
                    AddConvolution($"{name}.conv2", $"{name}.bn2", planes, planes, 3);
                }
                if (reshapes)
                    AddDownsample(name, channels, outputs, 1);
                channels = outputs;
            }
        }
        return channels;
    }

    private void AddLocalBranch(int channels)
    {
        foreach (string name in (string[])["local_res.0", "local_res.1"])
        {
            AddConvolution($"{name}.conv1", $"{name}.bn1", channels, channels, 3);
            AddConvolution($"{name}.conv2", $"{name}.bn2", channels, channels, 3);
        }
        AddDownsample("local_res.0", channels, channels, 2);
    }

    private void AddDownsample(string block, int inputs, int outputs, int kernel) =>
        AddConvolution($"{block}.downsample.0", $"{block}.downsample.1", inputs, outputs, kernel, $"{block}.downsample");

    private void AddConvolution(string convolution, string norm, int inputs, int outputs, int kernel, string? name = null)
    {
        var (weight, bias) = BatchNorm.Fold(
            Weight($"{convolution}.weight", outputs * inputs * kernel * kernel), [],
            Weight($"{norm}.weight", outputs), Weight($"{norm}.bias", outputs),
            Weight($"{norm}.running_mean", outputs), Weight($"{norm}.running_var", outputs));
        Add($"{name ?? convolution}.weight", [outputs, inputs, kernel, kernel], weight);
        Add($"{name ?? convolution}.bias", [outputs], bias);
    }

    private void AddLinear(string name, int inputs, int outputs)
    {
        Add($"{name}.weight", [outputs, inputs], Weight($"{name}.weight", outputs * inputs));
        Add($"{name}.bias", [outputs], Weight($"{name}.bias", outputs));
    }

    private float[] Weight(string name, int count)
    {
        float[] values = _weights(name);
        return values.Length == count
            ? values
            : throw new InputException(_path, $"cannot be written: {name} has {values.Length} values, {count} are needed");
    }

    private void Add(string name, long[] shape, float[] values)
    {
        if (!values.All(float.IsFinite))
            throw new InputException(_path, $"cannot be written: {name} holds NaN or infinity");
        var type = shape.Length == 1 ? GgufType.F32 : _type;
        if (type == GgufType.F16 && values.Any(v => !Half.IsFinite((Half)v)))
            throw new InputException(_path, $"cannot be written: {name} is beyond the range of F16; choose BF16 or F32");
        _file.AddTensor(name, type, shape, () => values);
    }
}
