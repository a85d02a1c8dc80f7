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
}
