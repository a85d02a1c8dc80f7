namespace Pcrl.Kernels.Cpu;

/// <summary>A tensor in main memory.</summary>
internal sealed unsafe class CpuTensor : Tensor
{
    private readonly NativeBuffer _buffer;
    private readonly long _offset;
    private readonly bool _owner;

    public CpuTensor(Device device, Shape shape)
        : this(device, shape, new NativeBuffer(shape.Count * sizeof(float)), 0, owner: true)
    {
    }

    private CpuTensor(Device device, Shape shape, NativeBuffer buffer, long offset, bool owner)
        : base(device, shape)
    {
        _buffer = buffer;
        _offset = offset;
        _owner = owner;
    }

    public float* Data => _buffer.Floats + _offset;

    public override void Dispose()
    {
        if (_owner)
            _buffer.Dispose();
    }

    private protected override Tensor CreateView(Shape shape, long offset) => new CpuTensor(Device, shape, _buffer, _offset + offset, owner: false);

    private protected override void CopyFrom(ReadOnlySpan<float> values) => values.CopyTo(new Span<float>(Data, values.Length));

    private protected override void CopyTo(Span<float> values) => new ReadOnlySpan<float>(Data, values.Length).CopyTo(values);
}
