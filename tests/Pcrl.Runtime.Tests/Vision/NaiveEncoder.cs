using System.Text;
using Pcrl.Kernels;
using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Pooling;
using Pcrl.Runtime.Vision;

namespace Pcrl.Runtime.Tests.Vision;

/// <summary>Weights made from their names, and a record of which were asked for.</summary>
internal sealed class RandomWeights
{
    public List<string> Names { get; } = [];

    public ReadOnlySpan<float> Read(string name, ReadOnlySpan<int> shape)
    {
        Names.Add(name);
        int count = 1, fanIn = 1;
        for (int i = 0; i < shape.Length; i++)
        {
            count *= shape[i];
            fanIn *= i == 0 ? 1 : shape[i];
        }
        var random = new Random(Encoding.UTF8.GetBytes(name).Aggregate(17, (h, b) => unchecked(h * 31 + b)));
        var values = new float[count];
        foreach (ref float value in values.AsSpan())
            value = (float)((random.NextDouble() * 2 - 1) * Math.Sqrt(3.0 / fanIn));
        return values;
    }
}

/// <summary>The visual path straight from its description, one naive operator after another.</summary>
internal sealed class NaiveEncoder(VisualConfig config, RandomWeights weights, int slices)
{
    public (float[] Tokens, float[] Masks, float[] Grid) Encode(float[] grey)
    {
        int side = config.ImageSize, c = config.FeatureChannels, d = config.TokenWidth;
        var images = new float[grey.Length * 3];
        for (int i = 0; i < images.Length; i++)
            images[i] = (grey[i / 3] - config.Mean[i % 3]) / config.Std[i % 3];
        var x = Conv("trunk.conv1", (new(slices, side, side, 3), images), config.Width, 7, stride: 2, padding: 3, relu: true);
        x = Apply(new MaxPool2d(3) { Stride = 2, Padding = 1 }, x);
        for (int stage = 0; stage < config.Depths.Count; stage++)
            for (int block = 0; block < config.Depths[stage]; block++)
            {
                string name = $"trunk.layer{stage + 1}.{block}";
                int stride = stage > 0 && block == 0 ? 2 : 1, width = config.Width << stage;
                if (config.Block == "basic")
                {
                    x = BasicBlock(name, x, width, stride, downsampleKernel: 1);
                    continue;
                }
                var shortcut = x.Shape.C == 4 * width ? x : Conv(name + ".downsample", x, 4 * width, 1, stride);
                var y = Conv(name + ".conv1", x, width, 1, relu: true);
                y = Conv(name + ".conv2", y, width, 3, stride, padding: 1, relu: true);
                x = Conv(name + ".conv3", y, 4 * width, 1, relu: true, residual: shortcut.Values);
            }
        var grid = Apply(new AdaptiveAvgPool2d(config.Grid), x);
        var v = BasicBlock("local_res.1", BasicBlock("local_res.0", grid, c, stride: 2, downsampleKernel: 2), c, stride: 1, downsampleKernel: 1);
        float[] local = Project("local_visual_projector", Mean(v), d);
        float[] global = Project("global_visual_projector.1", Project("global_visual_projector.0", Mean(x), d), d);
        var masks = Apply(new ConvTranspose2d(c, c, 2) { Stride = 2, Relu = true }, v, Weight("local_seg.0", [c, c, 2, 2]), Weight("local_seg.0", [c], "bias"));
        masks = Conv("local_seg.2", masks, 1, 1);
        return (config.VisualTokens == "global" ? global : [.. local, .. global], [.. masks.Values.Select(m => 1 / (1 + MathF.Exp(-m)))], grid.Values);
    }

    private (Shape Shape, float[] Values) BasicBlock(string name, (Shape Shape, float[] Values) x, int width, int stride, int downsampleKernel)
    {
        var shortcut = stride == 1 && x.Shape.C == width ? x : Conv(name + ".downsample", x, width, downsampleKernel, stride);
        var y = Conv(name + ".conv1", x, width, 3, stride, padding: 1, relu: true);
        return Conv(name + ".conv2", y, width, 3, padding: 1, relu: true, residual: shortcut.Values);
    }

    private (Shape Shape, float[] Values) Conv(string name, (Shape Shape, float[] Values) x, int outputs, int kernel, int stride = 1, int padding = 0, bool relu = false, float[]? residual = null) =>
        Apply(new Conv2d(x.Shape.C, outputs, kernel) { Stride = stride, Padding = padding, Relu = relu }, x,
            Weight(name, [outputs, x.Shape.C, kernel, kernel]), Weight(name, [outputs], "bias"), residual);

    private float[] Project(string name, float[] x, int outputs)
    {
        var shape = Shape.Matrix(slices, x.Length / slices);
        return Apply(new Linear(shape.C, outputs), (shape, x), Weight(name, [outputs, shape.C]), Weight(name, [outputs], "bias")).Values;
    }

    private static float[] Mean((Shape Shape, float[] Values) x) => Apply(new AdaptiveAvgPool2d(1), x).Values;

    private float[] Weight(string name, int[] shape, string kind = "weight") => weights.Read($"{name}.{kind}", shape).ToArray();

    private static (Shape Shape, float[] Values) Apply(Operator op, (Shape Shape, float[] Values) x, float[]? weight = null, float[]? bias = null, float[]? residual = null) =>
        (op.OutputShape(x.Shape), op.Reference(new OperatorInputs { Shape = x.Shape, X = x.Values, Weight = weight, Bias = bias, Residual = residual }));
}
