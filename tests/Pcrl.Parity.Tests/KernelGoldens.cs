using System.Text.Json;
using Pcrl.Kernels;
using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Cpu;
using Pcrl.Kernels.Pooling;
using Pcrl.Runtime.Vision;

namespace Pcrl.Parity.Tests;

/// <summary>Our own kernels against the goldens, on every backend that can run here, and the naive reference that the other tests trust.</summary>
internal static class KernelGoldens
{
    public static void Convolution(GoldenCase golden)
    {
        Each(golden, (sub, x, w) => new Conv2d((int)x[1], (int)w[0], new Size((int)w[2], (int)w[3]))
        {
            Stride = Pair(sub, "stride"), Padding = Pair(sub, "padding"), Dilation = Pair(sub, "dilation"), Groups = sub.GetProperty("groups").GetInt32(),
        });
    }

    public static void TransposedConvolution(GoldenCase golden)
    {
        Each(golden, (sub, x, w) => new ConvTranspose2d((int)x[1], (int)w[1], new Size((int)w[2], (int)w[3]))
        {
            Stride = Pair(sub, "stride"), Padding = Pair(sub, "padding"), OutputPadding = Pair(sub, "output_padding"),
        });
    }

    public static void Pooling(GoldenCase golden)
    {
        int k = 0;
        foreach (var sub in golden.Config.GetProperty("adaptive_avg").EnumerateArray())
            Check(golden, new AdaptiveAvgPool2d(Pair(sub[1])), $"in.a.{k}.x", $"a.{k++}.y");
        k = 0;
        foreach (var sub in golden.Config.GetProperty("max_pool").EnumerateArray())
            Check(golden, new MaxPool2d(sub[1].GetInt32()) { Stride = sub[2].GetInt32(), Padding = sub[3].GetInt32() }, $"in.m.{k}.x", $"m.{k++}.y");

        // Pooling over tokens: [N, L, D] is an image of L rows and one column in our layout already.
        long[] shape = golden.Shape("in.seq");
        var tokens = new Shape((int)shape[0], (int)shape[1], 1, (int)shape[2]);
        foreach (var device in Devices(0))
        {
            golden.AssertOutput("gmp.y", Run(device, new MaxPool2d(new Size(tokens.H, 1)), tokens, golden.Floats("in.seq")));
            golden.AssertOutput("gap.y", Run(device, new AdaptiveAvgPool2d(1), tokens, golden.Floats("in.seq")));
        }
    }

    /// <summary>The whole trunk at full size, BatchNorm folded as the converter folds it.</summary>
    public static void Trunk(GoldenCase golden)
    {
        var filled = golden.Filled("weights");
        int side = golden.Config.GetProperty("input_nchw")[2].GetInt32();
        var block = golden.Filled("filled_inputs")["input.block"];
        float[] noise = golden.Filled("filled_inputs")["input.noise"].Values;
        int blocks = (int)block.Shape[1], cell = side / blocks;
        var image = new float[side * side * 3]; // [S, S, 3]
        for (int y = 0; y < side; y++)
            for (int x = 0; x < side; x++)
                for (int c = 0; c < 3; c++)
                    image[(y * side + x) * 3 + c] = block.Values[(c * blocks + y / cell) * blocks + x / cell] + noise[(c * side + y) * side + x];
        foreach (var device in Devices(long.MaxValue))
        {
            using var trunk = new VisualTrunk(new VisualConfig { ImageSize = side }, Folded, device, slices: 1, colour: true);
            trunk.Run(image);
            golden.AssertOutput("grid", trunk.Grid.ToArray());
        }

        ReadOnlySpan<float> Folded(string name, ReadOnlySpan<int> shape)
        {
            int dot = name.LastIndexOf('.');
            string convolution = name["trunk.".Length..dot];
            string norm = convolution.EndsWith("downsample", StringComparison.Ordinal) ? convolution + ".1" : convolution.Replace("conv", "bn");
            if (convolution.EndsWith("downsample", StringComparison.Ordinal))
                convolution += ".0";
            float[] Norm(string part) => filled[$"{norm}.{part}"].Values;
            var (weight, bias) = BatchNorm.Fold(filled[convolution + ".weight"].Values, [], Norm("weight"), Norm("bias"), Norm("running_mean"), Norm("running_var"),
                golden.Config.GetProperty("bn_eps").GetDouble());
            return name[dot..] == ".bias" ? bias : weight;
        }
    }

    private static void Each(GoldenCase golden, Func<JsonElement, long[], long[], Operator> create)
    {
        int k = 0;
        foreach (var sub in golden.Config.GetProperty("sub").EnumerateArray())
        {
            Check(golden, create(sub, golden.Shape($"in.{k}.x"), golden.Shape($"in.{k}.w")), $"in.{k}.x", $"{k}.y", golden.Floats($"in.{k}.w"),
                golden.Has($"in.{k}.b") ? golden.Floats($"in.{k}.b") : []);
            k++;
        }
    }

    private static void Check(GoldenCase golden, Operator op, string input, string output, float[]? weight = null, float[]? bias = null)
    {
        long[] nchw = golden.Shape(input);
        var shape = new Shape((int)nchw[0], (int)nchw[2], (int)nchw[3], (int)nchw[1]);
        float[] x = ToNhwc(golden.Floats(input), shape);
        golden.AssertOutput(output, ToNchw(op.Reference(new OperatorInputs { Shape = shape, X = x, Weight = weight, Bias = bias }), op.OutputShape(shape)));
        foreach (var device in Devices(op.Flops(shape)))
            golden.AssertOutput(output, ToNchw(Run(device, op, shape, x, weight, bias), op.OutputShape(shape)));
    }

    private static float[] Run(Device device, Operator op, Shape shape, float[] x, float[]? weight = null, float[]? bias = null)
    {
        using var layer = device.Prepare(op, shape, weight, bias);
        using var input = device.NewTensor(shape);
        using var output = device.NewTensor(layer.Output);
        input.Write(x);
        layer.Run(input, output);
        return output.ToArray();
    }

    /// <summary>Opens the backends one after the other; the emulator only for small jobs, CUDA only where there is one.</summary>
    private static IEnumerable<Device> Devices(long flops)
    {
        foreach (int bits in (int[])[512, 256])
        {
            using var cpu = new CpuDevice(vectorBits: bits);
            yield return cpu;
        }
        if (flops < 10_000_000)
        {
            using var emulator = Device.Open(DeviceKind.Emulator);
            yield return emulator;
        }
        using var cuda = Device.Open(DeviceKind.Cuda);
        if (cuda.Kind == DeviceKind.Cuda)
            yield return cuda;
    }

    private static Size Pair(JsonElement pair) => new(pair[0].GetInt32(), pair[1].GetInt32());

    private static Size Pair(JsonElement sub, string name) => Pair(sub.GetProperty(name));

    private static float[] ToNhwc(float[] values, Shape shape)
    {
        var result = new float[values.Length];
        for (int n = 0; n < shape.N; n++)
            for (int c = 0; c < shape.C; c++)
                for (int p = 0; p < shape.Pixels; p++)
                    result[(n * shape.Pixels + p) * shape.C + c] = values[(n * shape.C + c) * shape.Pixels + p];
        return result;
    }

    private static float[] ToNchw(float[] values, Shape shape)
    {
        var result = new float[values.Length];
        for (int n = 0; n < shape.N; n++)
            for (int c = 0; c < shape.C; c++)
                for (int p = 0; p < shape.Pixels; p++)
                    result[(n * shape.C + c) * shape.Pixels + p] = values[(n * shape.Pixels + p) * shape.C + c];
        return result;
    }
}
