using Pcrl.Kernels.Cpu;

namespace Pcrl.Kernels.Tests;

/// <summary>Every way an operator can run here, each opened once.</summary>
public sealed class Backends : IDisposable
{
    private readonly Dictionary<string, Device> _devices = new()
    {
        ["cpu 512-bit, 1 thread"] = new CpuDevice(threads: 1, vectorBits: 512),
        ["cpu 512-bit, 3 threads"] = new CpuDevice(threads: 3, vectorBits: 512),
        ["cpu 256-bit, 1 thread"] = new CpuDevice(threads: 1, vectorBits: 256),
        ["cpu 256-bit, 2 threads"] = new CpuDevice(threads: 2, vectorBits: 256),
        ["emulated gpu"] = Device.Open(DeviceKind.Emulator),
    };

    public Backends()
    {
        var gpu = Device.Open(DeviceKind.Cuda);
        if (gpu.Kind == DeviceKind.Cuda)
            _devices["cuda"] = gpu;
        else
            gpu.Dispose();
    }

    /// <summary>Devices that can run a job of this size in reasonable time: not the emulator for a million operations, not one thread for ten thousand million.</summary>
    public IEnumerable<(string Name, Device Device)> For(long flops) => _devices
        .Where(d => d.Value.Kind != DeviceKind.Emulator || flops < 1_000_000)
        .Where(d => d.Value.Kind != DeviceKind.Cpu || d.Value.Threads > 1 || flops < 10_000_000_000)
        .Select(d => (d.Key, d.Value));

    public void Dispose()
    {
        foreach (var device in _devices.Values)
            device.Dispose();
    }
}
