using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Pooling;
using Pcrl.Kernels.TensorCores;

namespace Pcrl.Kernels;

/// <summary>One operator at one shape: the table that tests and benchmark share.</summary>
/// <param name="Name">What it stands for.</param>
/// <param name="Operator">The operator.</param>
/// <param name="Input">Shape of the input.</param>
/// <param name="Residual">Whether a residual is added.</param>
internal sealed record OpCase(string Name, Operator Operator, Shape Input, bool Residual = false)
{
    /// <summary>Largest error allowed; see <see cref="RelativeError"/>. A few hundred roundings of 2⁻²⁴ at most.</summary>
    public const double Tolerance = 2e-5;

    /// <summary>Largest error allowed in bfloat16 for inputs and weights that are <see cref="OpData.Rounded"/>: the result is rounded once more, by 2⁻⁸ of it at most.</summary>
    public const double Bf16Tolerance = 1.0 / 256 + Tolerance;

    /// <summary>Floating-point operations of the plain algorithm.</summary>
    public long Flops => Operator.Flops(Input);

    /// <summary>The layers of the full-size visual path by their kinds (one slice; the local branch with all 24), then small awkward ones.</summary>
    public static IReadOnlyList<OpCase> All { get; } =
    [
        new("spread 1x1 1-2", new Conv2d(1, 2, 1), new(1, 512, 512, 1)),
        Conv("stem 7x7 s2 2-64", 2, 64, 7, 512, stride: 2),
        new("max pool 3x3 s2", new MaxPool2d(3) { Stride = 2, Padding = 1 }, new(1, 256, 256, 64)),
        Conv("layer1 1x1 64-64", 64, 64, 1, 128),
        Conv("layer1 3x3 64-64", 64, 64, 3, 128),
        Conv("layer1 1x1 64-256 + r", 64, 256, 1, 128, residual: true),
        Conv("layer1 1x1 256-64", 256, 64, 1, 128),
        Conv("layer2 1x1 256-128", 256, 128, 1, 128),
        Conv("layer2 3x3 s2 128-128", 128, 128, 3, 128, stride: 2),
        Conv("layer2 1x1 s2 256-512", 256, 512, 1, 128, stride: 2),
        Conv("layer2 3x3 128-128", 128, 128, 3, 64),
        Conv("layer2 1x1 128-512 + r", 128, 512, 1, 64, residual: true),
        Conv("layer2 1x1 512-128", 512, 128, 1, 64),
        Conv("layer3 3x3 s2 256-256", 256, 256, 3, 64, stride: 2),
        Conv("layer3 3x3 256-256", 256, 256, 3, 32),
        Conv("layer3 1x1 256-1024 + r", 256, 1024, 1, 32, residual: true),
        Conv("layer3 1x1 1024-256", 1024, 256, 1, 32),
        Conv("layer4 3x3 512-512", 512, 512, 3, 16),
        Conv("layer4 1x1 512-2048 + r", 512, 2048, 1, 16, residual: true),
        Conv("layer4 1x1 2048-512", 2048, 512, 1, 16),
        new("grid 16x16 to 14x14", new AdaptiveAvgPool2d(14), new(1, 16, 16, 2048)),
        new("global average 16x16", new AdaptiveAvgPool2d(1), new(1, 16, 16, 2048)),
        Conv("local 3x3 2048-2048", 2048, 2048, 3, 7, images: 24),
        Conv("local 2x2 s2 2048-2048", 2048, 2048, 2, 14, stride: 2, padding: 0, images: 24),
        new("segmentation 2x2 transposed s2", new ConvTranspose2d(2048, 2048, 2) { Stride = 2, Relu = true }, new(24, 7, 7, 2048)),
        new("projector 2048-4096", new Linear(2048, 4096), Shape.Matrix(24, 2048)),

        Conv("one pixel", 5, 7, 1, 1),
        Conv("one pixel, 3x3", 5, 7, 3, 1),
        Conv("odd size, stride 2", 9, 33, 3, 7, stride: 2, images: 2, residual: true),
        Conv("tile and one more", 16, 33, 3, 3, residual: true),
        new("dilated", new Conv2d(4, 3, 3) { Padding = 2, Dilation = 2 }, new(1, 9, 8, 4)),
        new("groups", new Conv2d(6, 8, 3) { Padding = 1, Groups = 2, Relu = true }, new(2, 5, 6, 6), Residual: true),
        new("one channel, 1x1", new Conv2d(1, 5, 1) { Relu = true }, new(2, 3, 4, 1), Residual: true),
        new("oblong", new Conv2d(3, 5, new Size(2, 5)) { Stride = new Size(3, 1), Padding = new Size(0, 2) }, new(2, 8, 12, 3)),
        new("transposed 2x2 s2", new ConvTranspose2d(6, 3, 2) { Stride = 2, Relu = true }, new(2, 3, 4, 6)),
        new("transposed 3x3 s2 p1 o1", new ConvTranspose2d(3, 2, 3) { Stride = 2, Padding = 1, OutputPadding = 1 }, new(1, 4, 4, 3), Residual: true),
        new("transposed, kernel below stride", new ConvTranspose2d(3, 2, 1) { Stride = 3, OutputPadding = 2 }, new(1, 2, 3, 3)),
        new("linear", new Linear(11, 37) { Relu = true }, Shape.Matrix(5, 11), Residual: true),
        new("max pool, odd", new MaxPool2d(3) { Stride = 2, Padding = 1 }, new(2, 7, 5, 3)),
        new("adaptive, growing", new AdaptiveAvgPool2d(new Size(5, 3)), new(2, 3, 4, 5)),
    ];

    /// <summary>Random inputs: activations in −1 … 1, weights scaled so that outputs keep that size.</summary>
    public OpData Data(int seed)
    {
        var random = new Random(seed);
        long outputs = Operator.OutputShape(Input).Count;
        double scale = Operator.WeightCount == 0 ? 0 : Math.Sqrt(3.0 * outputs / Math.Max(1, Flops / 2));
        return new OpData(Values(Input.Count, 1), Values(Operator.WeightCount, scale), Values(Operator.BiasCount, 0.5), Residual ? Values(outputs, 1) : []);

        float[] Values(long count, double range)
        {
            var values = new float[count];
            for (int i = 0; i < values.Length; i++)
                values[i] = (float)((random.NextDouble() * 2 - 1) * range);
            return values;
        }
    }

    /// <summary>
    /// The largest |got − reference| / (1 + |reference|), over all output elements or, if there are more than <paramref name="samples"/>, over
    /// that many drawn at random. NaN where exactly one of the two is NaN.
    /// </summary>
    public double RelativeError(OpData data, ReadOnlySpan<float> got, int samples, int seed)
    {
        var inputs = new OperatorInputs { Shape = Input, X = data.X, Weight = data.Weight, Bias = data.Bias, Residual = data.Residual };
        var shape = Operator.OutputShape(Input);
        bool all = shape.Count <= samples;
        var random = new Random(seed);
        double worst = 0;
        for (int i = 0; i < (all ? shape.Count : samples); i++)
        {
            int index = all ? i : random.Next((int)shape.Count);
            int c = index % shape.C, x = index / shape.C % shape.W, y = index / shape.C / shape.W % shape.H, n = index / shape.C / shape.W / shape.H;
            double reference = Operator.At(inputs, n, y, x, c), value = got[index];
            if ((float)reference == value || double.IsNaN(reference) && double.IsNaN(value))
                continue; // equal, also as infinities
            double error = Math.Abs(value - reference) / (1 + Math.Abs(reference));
            if (double.IsNaN(error))
                return double.NaN;
            worst = Math.Max(worst, error);
        }
        return worst;
    }

    /// <summary>The test's name.</summary>
    public override string ToString() => Name;

    private static OpCase Conv(string name, int inChannels, int outChannels, int kernel, int side, int stride = 1, int? padding = null, int images = 1, bool residual = false) =>
        new(name, new Conv2d(inChannels, outChannels, kernel) { Stride = stride, Padding = padding ?? kernel / 2, Relu = true },
            new(images, side, side, inChannels), residual);
}

/// <summary>Values for one <see cref="OpCase"/>.</summary>
internal sealed record OpData(float[] X, float[] Weight, float[] Bias, float[] Residual)
{
    /// <summary>Inputs, residual and weights as bfloat16 holds them; biases stay.</summary>
    public OpData Rounded()
    {
        return this with { X = Round(X), Weight = Round(Weight), Residual = Round(Residual) };

        static float[] Round(float[] values) => [.. values.Select(v => Bfloat16.ToFloat(Bfloat16.Round(v)))];
    }

    /// <summary>Runs the operator once on a device.</summary>
    public float[] Run(Device device, Operator op, Shape shape)
    {
        using var layer = device.Prepare(op, shape, Weight, Bias);
        using var input = device.NewTensor(shape);
        using var output = device.NewTensor(layer.Output);
        using var residual = Residual.Length > 0 ? device.NewTensor(layer.Output) : null;
        input.Write(X);
        residual?.Write(Residual);
        layer.Run(input, output, residual);
        return output.ToArray();
    }
}
