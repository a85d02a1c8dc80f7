using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Cpu;
using Pcrl.Kernels.Gpu;

namespace Pcrl.Kernels.Tests;

public sealed class DeviceTests
{
    [Fact]
    public void The_cpu_honours_the_number_of_threads_and_says_so()
    {
        using var device = Device.Open(DeviceKind.Cpu, threads: 3);
        Assert.Equal(DeviceKind.Cpu, device.Kind);
        Assert.Equal(3, device.Threads);
        Assert.Contains("cpu, 3 threads", device.Choice);
        Assert.Throws<ArgumentOutOfRangeException>(() => Device.Open(DeviceKind.Cpu, -1));
        Assert.Throws<ArgumentOutOfRangeException>(() => new CpuDevice(vectorBits: 128));
    }

    [Fact]
    public void Zero_threads_means_one_per_core()
    {
        using var device = Device.Open(DeviceKind.Cpu);
        Assert.Equal(Environment.ProcessorCount, device.Threads);
    }

    [Fact]
    public void Without_a_gpu_the_cpu_takes_over_with_a_reason()
    {
        using var automatic = Device.Open(DeviceKind.Auto);
        using var cuda = Device.Open(DeviceKind.Cuda);
        if (CudaDriver.WhyUnusable() is { } reason)
        {
            Assert.Equal(DeviceKind.Cpu, automatic.Kind);
            Assert.Contains(reason, automatic.Choice);
            Assert.DoesNotContain("warning", automatic.Choice);
            Assert.Equal(DeviceKind.Cpu, cuda.Kind);
            Assert.Contains("warning: cuda was asked for, but " + reason, cuda.Choice);
        }
        else
        {
            Assert.Equal(cuda.Kind, automatic.Kind);
        }
    }

    [Fact]
    public void Opencl_opens_or_falls_back_with_a_warning()
    {
        using var device = Device.Open(DeviceKind.OpenCl);
        Assert.True(device.Kind == DeviceKind.OpenCl || device.Choice.Contains("warning: opencl could not be opened"), device.Choice);
        Assert.DoesNotContain("CPUAccelerator", device.Choice); // ILGPU's emulator is no OpenCL device
    }

    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(5)]
    [InlineData(16)] // more than most machines have cores
    public void A_team_does_every_part_once_and_stays_within_its_size(int size)
    {
        using var team = new ThreadTeam(size);
        for (int round = 0; round < 300; round++)
        {
            int parts = round % 40;
            var done = new int[parts];
            var inside = new int[size];
            team.Run(parts, (part, worker) =>
            {
                Assert.Equal(1, Interlocked.Increment(ref inside[worker]));
                Interlocked.Increment(ref done[part]);
                Interlocked.Decrement(ref inside[worker]);
            });
            Assert.All(done, d => Assert.Equal(1, d));
        }
    }

    [Fact]
    public void A_failure_in_a_part_reaches_the_caller_and_the_team_lives_on()
    {
        using var team = new ThreadTeam(3);
        Assert.Throws<InvalidOperationException>(() => team.Run(50, (part, _) =>
        {
            if (part == 20)
                throw new InvalidOperationException();
        }));
        int sum = 0;
        team.Run(50, (part, _) => Interlocked.Add(ref sum, part));
        Assert.Equal(1225, sum);
    }

    [Theory]
    [InlineData(1, 4)]
    [InlineData(3, 1)]
    [InlineData(3, 7)]
    [InlineData(16, 40)]
    public void From_inside_a_part_the_calling_worker_does_all_parts(int size, int parts)
    {
        using var team = new ThreadTeam(size);
        using var other = new ThreadTeam(2);
        int done = 0;
        for (int round = 0; round < 50; round++)
        {
            team.Run(parts, (_, worker) =>
            {
                int thread = Environment.CurrentManagedThreadId;
                team.Run(5, (_, inner) =>
                {
                    Assert.Equal((worker, thread), (inner, Environment.CurrentManagedThreadId));
                    Interlocked.Increment(ref done);
                });
                other.Run(1, (_, _) => Assert.Equal(-1, team.Worker)); // a part of another team is none of this one
                Assert.Equal(worker, team.Worker);
            });
            Assert.Equal(-1, team.Worker);
        }
        Assert.Equal(50 * parts * 5, done);
    }

    [Fact]
    public void A_failure_inside_a_part_of_a_part_reaches_the_caller()
    {
        using var team = new ThreadTeam(3);
        for (int round = 0; round < 100; round++)
            Assert.Throws<InvalidOperationException>(() => team.Run(8, (part, _) => team.Run(4, (inner, _) => _ = part + inner == 9 ? throw new InvalidOperationException() : 0)));
        Assert.Equal(-1, team.Worker);
        int sum = 0;
        team.Run(50, (part, _) => Interlocked.Add(ref sum, part));
        Assert.Equal(1225, sum);
    }

    /// <summary>Two lanes of one layer, and threads that come with layers of their own, have the same memory for scratch at hand.</summary>
    [Theory]
    [InlineData(1, 1)] // spread
    [InlineData(3, 3)] // kernel rows read as one
    [InlineData(16, 3)] // direct
    [InlineData(32, 3)] // Winograd
    public async Task Lanes_and_callers_side_by_side_do_not_disturb_each_other(int inChannels, int kernel)
    {
        const int Lanes = 3, Parts = 8;
        using var device = Device.Open(DeviceKind.Cpu, Lanes);
        var opCase = new OpCase("", new Conv2d(inChannels, 32, kernel) { Padding = kernel / 2, Relu = true }, new(2, 9, 9, inChannels), Residual: true);
        OpData[] data = [.. Enumerable.Range(0, Parts).Select(opCase.Data)];
        using var layer = device.Prepare(opCase.Operator, opCase.Input, data[0].Weight, data[0].Bias);
        var (x, y, r) = (Tensors(layer.Input), Tensors(layer.Output), Tensors(layer.Output));
        float[][] expected = [.. Enumerable.Range(0, Parts).Select(part =>
        {
            Run(layer, part, part);
            return y[part].ToArray();
        })];
        Assert.NotEqual(expected[0], expected[1]);

        await Task.WhenAll(Task.Run(RunLanes), Task.Run(() => RunTogether(Lanes)), Task.Run(() => RunTogether(Lanes + 1)));
        foreach (var tensor in (Tensor[])[.. x, .. y, .. r])
            tensor.Dispose();

        void RunLanes()
        {
            for (int round = 0; round < 50; round++)
            {
                device.RunLanes(Parts, (part, lane) =>
                {
                    Run(layer, part, lane);
                    Assert.Equal(expected[part], y[lane].ToArray());
                });
            }
        }

        void RunTogether(int at)
        {
            using var own = device.Prepare(opCase.Operator, opCase.Input, data[0].Weight, data[0].Bias);
            for (int round = 0; round < 100; round++)
            {
                Run(own, (round + at) % Parts, at);
                Assert.Equal(expected[(round + at) % Parts], y[at].ToArray());
            }
        }

        void Run(Layer layer, int part, int at)
        {
            x[at].Write(data[part].X);
            r[at].Write(data[part].Residual);
            for (int i = 0; i < 5; i++)
                layer.Run(x[at], y[at], r[at]);
        }

        Tensor[] Tensors(Shape shape) => [.. Enumerable.Range(0, Parts).Select(_ => device.NewTensor(shape))];
    }

    [Fact]
    public void On_a_gpu_there_is_one_lane()
    {
        using var device = Device.Open(DeviceKind.Emulator, threads: 3);
        Assert.Equal(1, device.Lanes);
        var parts = new List<int>();
        device.RunLanes(4, (part, lane) => parts.Add(10 * lane + part));
        Assert.Equal([0, 1, 2, 3], parts);
    }
}
