using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Gpu;
using Pcrl.Kernels.Pooling;
using Pcrl.Kernels.TensorCores;

namespace Pcrl.Kernels.Tests.TensorCores;

/// <summary>bfloat16 on the devices that can run it: tensors and pooling on the emulator, everything where there is a card.</summary>
public sealed class Bf16Tests
{
    public static IEnumerable<object[]> CaseNames => OpCase.All.Select(c => new object[] { c.Name });

    [Fact]
    public void Rounding_is_to_nearest_even_and_keeps_what_is_special()
    {
        float[] exact = [0, -0f, 1, -2.5f, float.PositiveInfinity, float.NegativeInfinity, 3e38f, 1e-40f];
        foreach (float value in exact)
        {
            float rounded = Bfloat16.ToFloat(Bfloat16.Round(value));
            Assert.Equal(rounded, Bfloat16.ToFloat(Bfloat16.Round(rounded)));
            Assert.True(rounded == value || Math.Abs(rounded - value) <= Math.Abs(value) / 256 + 1e-40, $"{value} became {rounded}");
        }
        Assert.Equal(1f, Bfloat16.ToFloat(Bfloat16.Round(1 + 1f / 256))); // a tie, to the even neighbour
        Assert.Equal(1 + 2f / 128, Bfloat16.ToFloat(Bfloat16.Round(1 + 3f / 256)));
        Assert.Equal(1 + 1f / 128, Bfloat16.ToFloat(Bfloat16.Round(1 + 1.01f / 256)));
        Assert.True(float.IsNaN(Bfloat16.ToFloat(Bfloat16.Round(float.NaN))));
        Assert.True(float.IsNaN(Bfloat16.ToFloat(Bfloat16.Round(BitConverter.UInt32BitsToSingle(0x7F800001))))); // all its bits are cut off
        Assert.True(float.IsPositiveInfinity(Bfloat16.ToFloat(Bfloat16.Round(float.MaxValue))));
    }

    [Fact]
    public void Tensors_and_pooling_keep_bfloat16()
    {
        using var device = Device.Open(DeviceKind.Emulator, precision: Precision.Bf16);
        var random = new Random(8);
        for (int i = 0; i < 30;)
        {
            var (op, input) = AwkwardShapes.Next(random);
            if (op is not (MaxPool2d or AdaptiveAvgPool2d) || input.Count > 2000)
                continue;
            AssertAgrees(new OpCase(op.ToString(), op, input), device, seed: i++);
        }
        using var whole = device.NewTensor(new Shape(3, 1, 1, 4));
        whole.Write([.. Enumerable.Range(0, 12).Select(v => (float)v)]);
        Assert.Equal([4, 5, 6, 7], whole.Images(1, 1).ToArray());
    }

    [Fact]
    public void A_device_that_cannot_says_so()
    {
        using var cpu = Device.Open(DeviceKind.Cpu, precision: Precision.Bf16);
        Assert.Contains("fp32", cpu.Choice);
        using var emulator = Device.Open(DeviceKind.Emulator, precision: Precision.Bf16);
        var failure = Assert.Throws<NotSupportedException>(() => emulator.Prepare(new Conv2d(5, 1, 1), new(1, 1, 1, 5), new float[5]));
        Assert.True(emulator.IsFailure(failure));
    }

    [SkippableTheory]
    [MemberData(nameof(CaseNames))]
    public void Every_case_agrees_with_the_reference_on_the_tensor_cores(string name)
    {
        using var device = Device.Open(DeviceKind.Cuda, precision: Precision.Bf16);
        Skip.IfNot(device is GpuDevice { Precision: Precision.Bf16 }, "no CUDA device with tensor cores: " + device.Choice);
        AssertAgrees(OpCase.All.Single(c => c.Name == name), device, seed: 1);
    }

    private static void AssertAgrees(OpCase opCase, Device device, int seed)
    {
        var data = opCase.Data(seed).Rounded();
        double error = opCase.RelativeError(data, data.Run(device, opCase.Operator, opCase.Input), samples: 2000, seed);
        Assert.True(error <= OpCase.Bf16Tolerance, $"{opCase.Name}: relative error {error:g3}");
    }
}
