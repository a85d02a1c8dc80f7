using ILGPU.Runtime.Cuda;
using Pcrl.Kernels;
using Pcrl.Kernels.Gpu;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Vision;

namespace Pcrl.Runtime.Tests.Vision;

public sealed class DeviceEncoderTests : IDisposable
{
    private const int Slices = 2;

    private static readonly VisualConfig Config = new() { ImageSize = 16, Block = "basic", Depths = [1], Width = 2, Grid = 2, TokenWidth = 4 };

    /// <summary>What ILGPU throws when the driver says so; without a driver it has no text for its own constants.</summary>
    private static readonly CudaException OutOfMemory = new("CUDA_ERROR_OUT_OF_MEMORY\nout of memory");

    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    [Fact]
    public void Out_of_memory_while_loading_falls_back_to_the_cpu_with_a_warning()
    {
        var gpu = (GpuDevice)Device.Open(DeviceKind.Emulator, threads: 1);
        gpu.Fault = OutOfMemory;
        using var encoder = DeviceEncoder.Load(Weights(), Config, gpu, Slices);
        AssertOnCpu(encoder);
    }

    [Fact]
    public void A_failure_while_encoding_falls_back_to_the_cpu_and_the_study_is_encoded_all_the_same()
    {
        var gpu = (GpuDevice)Device.Open(DeviceKind.Emulator, threads: 1);
        using var encoder = DeviceEncoder.Load(Weights(), Config, gpu, Slices);
        Assert.Same(gpu, encoder.Device);
        gpu.Fault = OutOfMemory;
        AssertOnCpu(encoder);
    }

    [Fact]
    public void A_damaged_file_is_an_input_error_on_every_device()
    {
        string path = Weights();
        using (var file = File.OpenWrite(path))
            file.SetLength(100);
        Assert.Throws<InputException>(() => DeviceEncoder.Load(path, Config, Device.Open(DeviceKind.Emulator), Slices));
    }

    [Fact]
    public void A_mistake_of_the_caller_is_not_taken_for_a_failure()
    {
        using var encoder = DeviceEncoder.Load(Weights(), Config, Device.Open(DeviceKind.Emulator), Slices);
        Assert.Throws<ArgumentException>(() => encoder.Encode(new float[3]));
        Assert.Equal(DeviceKind.Emulator, encoder.Device.Kind);
    }

    private void AssertOnCpu(DeviceEncoder encoder)
    {
        var random = new Random(5);
        float[] slices = [.. Enumerable.Range(0, Slices * 256).Select(_ => random.NextSingle())];
        float[] tokens = encoder.Encode(slices);
        Assert.Equal(DeviceKind.Cpu, encoder.Device.Kind);
        Assert.Equal(1, encoder.Device.Threads);
        Assert.Contains("warning: emulator gave up", encoder.Choice);
        Assert.Contains("CUDA_ERROR_OUT_OF_MEMORY out of memory", encoder.Choice); // in one line
        using var cpu = DeviceEncoder.Load(Weights(), Config, Device.Open(DeviceKind.Cpu, threads: 1), Slices);
        Assert.Equal(cpu.Encode(slices), tokens);
    }

    private string Weights()
    {
        string path = Path.Combine(_folder.Path, "visual.gguf");
        var file = new GgufWriter();
        file.Add("general.architecture", VisualGguf.Architecture);
        var names = new HashSet<string>();
        var random = new RandomWeights();
        using var device = Device.Open(DeviceKind.Cpu, threads: 1);
        using var recorded = new VisualEncoder(Config, Record, device, slices: Slices);
        file.Save(path);
        return path;

        ReadOnlySpan<float> Record(string name, ReadOnlySpan<int> shape)
        {
            float[] values = random.Read(name, shape).ToArray();
            if (names.Add(name))
                file.AddTensor(name, GgufType.F32, [.. shape.ToArray().Select(d => (long)d)], stream => stream.Write(System.Runtime.InteropServices.MemoryMarshal.AsBytes<float>(values)));
            return values;
        }
    }
}
