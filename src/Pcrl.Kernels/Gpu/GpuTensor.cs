using ILGPU;
using ILGPU.Runtime;

namespace Pcrl.Kernels.Gpu;

/// <summary>A tensor in an accelerator's memory, in the precision of its device.</summary>
internal sealed class GpuTensor : Tensor
{
    private readonly GpuDevice _device;
    private readonly MemoryBuffer? _owned;

    public GpuTensor(GpuDevice device, Shape shape)
        : base(device, shape)
    {
        _device = device;
        if (device.Precision == Precision.Bf16)
        {
            var memory = device.Allocate<ushort>(shape.Count);
            memory.MemSetToZero();
            (_owned, Halves) = (memory, memory.View);
        }
        else
        {
            var memory = device.Allocate<float>(shape.Count);
            memory.MemSetToZero();
            (_owned, Floats) = (memory, memory.View);
        }
    }

    private GpuTensor(GpuTensor of, Shape shape, long offset)
        : base(of._device, shape)
    {
        _device = of._device;
        if (_device.Precision == Precision.Bf16)
            Halves = of.Halves.SubView(offset, shape.Count);
        else
            Floats = of.Floats.SubView(offset, shape.Count);
    }

    /// <summary>The values on a device of fp32.</summary>
    public ArrayView<float> Floats { get; }

    /// <summary>The values on a device of bfloat16.</summary>
    public ArrayView<ushort> Halves { get; }

    public override void Dispose() => _owned?.Dispose();

    private protected override Tensor CreateView(Shape shape, long offset) => new GpuTensor(this, shape, offset);

    private protected override unsafe void CopyFrom(ReadOnlySpan<float> values)
    {
        _device.ThrowFault();
        var target = _device.Precision == Precision.Bf16 ? _device.Staging(values.Length) : Floats;
        fixed (float* host = values)
            target.CopyFromCPU(ref *host, values.Length);
        if (_device.Precision == Precision.Bf16)
            _device.ToHalves(values.Length, target, Halves);
        _device.Synchronize(); // the host's memory is the caller's again
    }

    private protected override unsafe void CopyTo(Span<float> values)
    {
        _device.ThrowFault();
        var source = Floats;
        if (_device.Precision == Precision.Bf16)
        {
            source = _device.Staging(values.Length);
            _device.ToFloats(values.Length, Halves, source);
        }
        fixed (float* host = values)
            source.CopyToCPU(ref *host, values.Length);
        _device.Synchronize();
    }
}
