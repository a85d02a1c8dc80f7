using ILGPU;
using ILGPU.Runtime;

namespace Pcrl.Kernels.Gpu;

/// <summary>A tensor in an accelerator's memory.</summary>
internal sealed class GpuTensor : Tensor
{
    private readonly GpuDevice _device;
    private readonly MemoryBuffer1D<float, Stride1D.Dense>? _owned;

    public GpuTensor(GpuDevice device, Shape shape)
        : base(device, shape)
    {
        _device = device;
        _owned = device.Accelerator.Allocate1D<float>(shape.Count);
        _owned.MemSetToZero();
        Floats = _owned.View;
    }

    private GpuTensor(GpuDevice device, Shape shape, ArrayView1D<float, Stride1D.Dense> data)
        : base(device, shape)
    {
        _device = device;
        Floats = data;
    }

    public ArrayView1D<float, Stride1D.Dense> Floats { get; }

    public override void Dispose() => _owned?.Dispose();

    private protected override Tensor CreateView(Shape shape, long offset) => new GpuTensor(_device, shape, Floats.SubView(offset, shape.Count));

    private protected override unsafe void CopyFrom(ReadOnlySpan<float> values)
    {
        fixed (float* host = values)
            Floats.BaseView.CopyFromCPU(ref *host, values.Length);
        _device.Accelerator.DefaultStream.Synchronize();
    }

    private protected override unsafe void CopyTo(Span<float> values)
    {
        fixed (float* host = values)
            Floats.BaseView.CopyToCPU(ref *host, values.Length);
        _device.Accelerator.DefaultStream.Synchronize();
    }
}
