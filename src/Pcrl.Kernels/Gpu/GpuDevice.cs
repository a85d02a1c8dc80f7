using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using ILGPU.Runtime.Cuda;
using ILGPU.Runtime.OpenCL;
using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Pooling;

namespace Pcrl.Kernels.Gpu;

/// <summary>A device that ILGPU drives: CUDA, OpenCL, or ILGPU's own CPU accelerator. The kernels are the same for all.</summary>
internal sealed class GpuDevice : Device
{
    private readonly Context _context;

    private GpuDevice(DeviceKind kind, int threads, Context context, Accelerator accelerator, string why)
        : base(kind, threads > 0 ? threads : Environment.ProcessorCount, $"{kind.ToString().ToLowerInvariant()}, {accelerator.Name} ({why})")
    {
        _context = context;
        Accelerator = accelerator;
    }

    public Accelerator Accelerator { get; }

    public static GpuDevice Open(DeviceKind kind, int threads, string why)
    {
        var context = Context.Create(builder => _ = kind switch
        {
            DeviceKind.Cuda => builder.Cuda().Optimize(OptimizationLevel.O2),
            DeviceKind.OpenCl => builder.OpenCL().Optimize(OptimizationLevel.O2),
            DeviceKind.Emulator => builder.CPU(CPUDeviceKind.Nvidia), // the one with groups of 256 threads
            _ => throw new ArgumentOutOfRangeException(nameof(kind)),
        });
        try
        {
            // Where a driver has no device, ILGPU puts its emulator in, which would take an hour for a study.
            var type = kind switch { DeviceKind.Cuda => AcceleratorType.Cuda, DeviceKind.OpenCl => AcceleratorType.OpenCL, _ => AcceleratorType.CPU };
            var device = context.Devices.FirstOrDefault(d => d.AcceleratorType == type) ?? throw new InvalidOperationException("no such device");
            return new GpuDevice(kind, threads, context, device.CreateAccelerator(context), why);
        }
        catch
        {
            context.Dispose();
            throw;
        }
    }

    public override Tensor NewTensor(Shape shape) => new GpuTensor(this, shape);

    public override void Synchronize() => Accelerator.Synchronize();

    public override void Dispose()
    {
        Accelerator.Dispose();
        _context.Dispose();
    }

    private protected override Layer Create(Operator op, Shape input, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias) => op switch
    {
        MaxPool2d pool => new GpuMaxPool2d(this, pool, input),
        AdaptiveAvgPool2d pool => new GpuAdaptiveAvgPool2d(this, pool, input),
        _ when ConvolutionForm.Of(op, input) is { } form => new GpuConvolution(this, op, input, form, weight, bias),
        _ => throw new NotSupportedException($"the GPU does not know {op}"),
    };
}
