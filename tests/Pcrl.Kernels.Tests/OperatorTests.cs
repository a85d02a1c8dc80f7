using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Cpu;
using Pcrl.Kernels.Pooling;

namespace Pcrl.Kernels.Tests;

public sealed class OperatorTests(Backends backends) : IClassFixture<Backends>
{
    public static IEnumerable<object[]> CaseNames => OpCase.All.Select(c => new object[] { c.Name });

    [Theory]
    [MemberData(nameof(CaseNames))]
    public void Every_case_agrees_with_the_reference_on_every_backend(string name)
    {
        var opCase = OpCase.All.Single(c => c.Name == name);
        var data = opCase.Data(seed: 1);
        foreach (var (backend, device) in backends.For(opCase.Flops))
        {
            double error = opCase.RelativeError(data, data.Run(device, opCase.Operator, opCase.Input), samples: 2000, seed: 2);
            Assert.True(error <= OpCase.Tolerance, $"{backend}: relative error {error:g3}");
        }
    }

    [Theory]
    [InlineData(1, 1200)]
    [InlineData(2, 1200)]
    [InlineData(3, 1200)]
    public void Random_awkward_shapes_agree_with_the_reference(int seed, int count)
    {
        var random = new Random(seed);
        for (int i = 0; i < count; i++)
        {
            var (op, input) = AwkwardShapes.Next(random);
            var opCase = new OpCase($"{i}: {op} on {input}", op, input, Residual: op.TakesResidual && random.Next(2) == 0);
            var data = opCase.Data(random.Next());
            // The emulator is slow: it gets every twentieth.
            foreach (var (backend, device) in backends.For(i % 20 == 0 ? opCase.Flops : long.MaxValue))
            {
                double error = opCase.RelativeError(data, data.Run(device, op, input), samples: 400, seed: i);
                Assert.True(error <= OpCase.Tolerance, $"{backend}, {opCase.Name}: relative error {error:g3}");
            }
        }
    }

    [Theory]
    [InlineData(1, float.NaN)]
    [InlineData(3, float.NaN)]
    [InlineData(40, float.NaN)]
    [InlineData(1, float.PositiveInfinity)]
    [InlineData(3, float.PositiveInfinity)]
    [InlineData(40, float.PositiveInfinity)]
    [InlineData(1, float.NegativeInfinity)]
    [InlineData(3, float.NegativeInfinity)]
    [InlineData(40, float.NegativeInfinity)]
    public void NaN_and_infinity_arrive_where_the_reference_has_them(int channels, float poison)
    {
        Operator[] operators =
        [
            new Conv2d(channels, 37, 3) { Padding = 1, Relu = true }, new Conv2d(channels, 32, 1) { Relu = true }, new Linear(channels, 33) { Relu = true },
            new ConvTranspose2d(channels, 5, 2) { Stride = 2, Relu = true }, new MaxPool2d(3) { Stride = 2, Padding = 1 }, new AdaptiveAvgPool2d(2),
        ];
        foreach (var op in operators)
        {
            var input = op is Linear ? Shape.Matrix(20, channels) : new Shape(1, 4, 5, channels);
            var opCase = new OpCase(op.ToString(), op, input);
            var data = opCase.Data(seed: 3);
            data.X[2 * channels + channels / 3] = poison;
            data.X[6 * channels + channels / 3] = -poison;
            foreach (var (backend, device) in backends.For(opCase.Flops))
            {
                float[] got = data.Run(device, op, input);
                Assert.True(opCase.RelativeError(data, got, samples: int.MaxValue, seed: 0) <= OpCase.Tolerance, $"{backend}: {op}");
                Assert.Contains(got, v => float.IsNaN(v) || float.IsInfinity(v));
            }
        }
    }

    [Theory]
    [InlineData(512, float.NaN)]
    [InlineData(512, float.PositiveInfinity)]
    [InlineData(512, float.NegativeInfinity)]
    [InlineData(256, float.NaN)]
    [InlineData(256, float.PositiveInfinity)]
    [InlineData(256, float.NegativeInfinity)]
    public void Winograd_is_taken_where_it_fits_and_has_NaN_and_infinity_where_the_reference_has_them(int vectorBits, float poison)
    {
        using var device = new CpuDevice(threads: 2, vectorBits);
        var op = new Conv2d(32, 64, 3) { Padding = 1, Relu = true };
        var shape = new Shape(2, 13, 14, 32);
        var opCase = new OpCase("winograd", op, shape, Residual: true);
        var data = opCase.Data(seed: 6);
        using var layer = device.Prepare(op, shape, data.Weight, data.Bias);
        Assert.IsType<CpuWinograd>(layer);
        data.X[(5 * shape.W + 6) * shape.C + 9] = poison; // within a tile
        data.X[(12 * shape.W + 13) * shape.C + 31] = -poison; // in the corner, next to the padding
        using var x = device.NewTensor(shape);
        using var y = device.NewTensor(layer.Output);
        x.Write(data.X);
        y.Write(data.Residual);
        layer.Run(x, y, residual: y);
        float[] got = y.ToArray();
        Assert.True(opCase.RelativeError(data, got, samples: int.MaxValue, seed: 0) <= OpCase.Tolerance);
        // Beyond one pixel's distance everything is finite, and around each poisoned pixel not everything is.
        int Poisoned(int fromY, int toY, int fromX, int toX) => (from row in Enumerable.Range(fromY, toY - fromY + 1)
                                                                 from column in Enumerable.Range(fromX, toX - fromX + 1)
                                                                 from c in Enumerable.Range(0, 64)
                                                                 where !float.IsFinite(got[(row * shape.W + column) * 64 + c]) select c).Count();
        Assert.NotEqual(0, Poisoned(4, 6, 5, 7));
        Assert.NotEqual(0, Poisoned(11, 12, 12, 13));
        Assert.Equal(Poisoned(4, 6, 5, 7) + Poisoned(11, 12, 12, 13), got.Count(v => !float.IsFinite(v)));
    }

    [Fact]
    public void The_residual_may_be_the_output_itself()
    {
        var op = new Conv2d(4, 40, 1) { Relu = true };
        var shape = new Shape(1, 5, 5, 4);
        var opCase = new OpCase("in place", op, shape, Residual: true);
        var data = opCase.Data(seed: 4);
        foreach (var (_, device) in backends.For(opCase.Flops))
        {
            using var layer = device.Prepare(op, shape, data.Weight, data.Bias);
            using var x = device.NewTensor(shape);
            using var y = device.NewTensor(layer.Output);
            x.Write(data.X);
            y.Write(data.Residual);
            layer.Run(x, y, y);
            Assert.True(opCase.RelativeError(data, y.ToArray(), int.MaxValue, 0) <= OpCase.Tolerance);
        }
    }

    [Fact]
    public void A_shape_that_does_not_fit_throws_before_any_work()
    {
        foreach (var (_, device) in backends.For(0))
        {
            var op = new Conv2d(4, 8, 3) { Padding = 1 };
            var shape = new Shape(1, 5, 5, 4);
            var weight = new float[op.WeightCount];
            Assert.Throws<ArgumentException>(() => device.Prepare(op, shape with { C = 5 }, weight));
            Assert.Throws<ArgumentException>(() => device.Prepare(op, shape, weight.AsSpan(1)));
            Assert.Throws<ArgumentException>(() => device.Prepare(op, shape, weight, new float[7]));
            Assert.Throws<ArgumentException>(() => device.Prepare(new Conv2d(4, 8, 7), shape, new float[4 * 8 * 49]));
            Assert.Throws<ArgumentException>(() => device.Prepare(new MaxPool2d(3) { Padding = 2 }, shape));
            using var layer = device.Prepare(op, shape, weight);
            using var x = device.NewTensor(shape);
            using var y = device.NewTensor(layer.Output);
            using var small = device.NewTensor(new Shape(1, 5, 4, 8));
            y.Write(Enumerable.Repeat(7f, (int)y.Shape.Count).ToArray());
            Assert.Throws<ArgumentException>(() => layer.Run(x, small));
            Assert.Throws<ArgumentException>(() => layer.Run(y, y));
            Assert.Throws<ArgumentException>(() => layer.Run(x, y, small));
            Assert.All(y.ToArray(), v => Assert.Equal(7f, v));
            Assert.Throws<ArgumentException>(() => x.Write(new float[3]));
            Assert.Throws<ArgumentException>(() => x.View(shape, 1));
        }
    }

    [Fact]
    public void Batch_normalisation_folds_into_the_convolution()
    {
        var random = new Random(5);
        float[] Values(int count, float offset = 0) => [.. Enumerable.Range(0, count).Select(_ => random.NextSingle() + offset)];
        var op = new Conv2d(3, 4, 3);
        var shape = new Shape(1, 5, 4, 3);
        float[] x = Values(60), weight = Values((int)op.WeightCount, -0.5f), bias = Values(4);
        float[] gamma = Values(4), beta = Values(4), mean = Values(4), variance = Values(4, 0.5f);
        float[] plain = op.Reference(new OperatorInputs { Shape = shape, X = x, Weight = weight, Bias = bias });
        var folded = BatchNorm.Fold(weight, bias, gamma, beta, mean, variance);
        float[] got = op.Reference(new OperatorInputs { Shape = shape, X = x, Weight = folded.Weight, Bias = folded.Bias });
        for (int i = 0; i < plain.Length; i++)
        {
            int c = i % 4;
            Assert.Equal((plain[i] - mean[c]) / Math.Sqrt(variance[c] + 1e-5) * gamma[c] + beta[c], got[i], 1e-5);
        }
        Assert.Throws<ArgumentException>(() => BatchNorm.Fold(weight, bias, gamma, beta, mean.AsSpan(1), variance));
    }

    [Theory]
    [InlineData(1, 1)] // spread
    [InlineData(3, 3)] // kernel rows read as one
    [InlineData(16, 3)] // direct
    [InlineData(32, 3)] // Winograd
    public void Running_a_layer_allocates_nothing(int inChannels, int kernel)
    {
        using var device = Device.Open(DeviceKind.Cpu, threads: 2);
        var op = new Conv2d(inChannels, 32, kernel) { Padding = kernel / 2 };
        var shape = new Shape(2, 9, 9, inChannels);
        using var layer = device.Prepare(op, shape, new float[op.WeightCount]);
        using var pool = device.Prepare(new AdaptiveAvgPool2d(3), layer.Output);
        using var x = device.NewTensor(shape);
        using var y = device.NewTensor(layer.Output);
        using var z = device.NewTensor(pool.Output);
        using var other = device.NewTensor(layer.Output);
        Action<int, int> inLane = (_, lane) => layer.Run(x, lane == 0 ? y : other);
        // Each of the two threads counts for itself: what the test runner's threads allocate meanwhile is none of the layers' doing.
        var team = ((CpuDevice)device).Team;
        var allocated = new long[2];
        int arrived = 0, expected = 0;
        Action<int, int> count = (_, worker) =>
        {
            unsafe
            {
                ((CpuDevice)device).SharedScratch(1 << 20); // of the lane, as it is inside a part
                ((CpuDevice)device).Scratch(worker, 1 << 20); // once per thread, and on a busy machine a thread may come to its first part late
            }
            allocated[worker] = GC.GetAllocatedBytesForCurrentThread() - allocated[worker];
            Interlocked.Increment(ref arrived);
            while (Volatile.Read(ref arrived) < expected) // until both are here: so each has one part
                Thread.Yield();
        };
        Run(50);
        Count();
        Run(50);
        Count();
        Assert.Equal([0, 0], allocated);

        void Count()
        {
            expected += 2;
            team.Run(2, count);
        }

        void Run(int times)
        {
            for (int i = 0; i < times; i++)
            {
                layer.Run(x, y);
                pool.Run(y, z);
                device.RunLanes(4, inLane);
            }
        }
    }
}
