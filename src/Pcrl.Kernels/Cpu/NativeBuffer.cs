using System.Runtime.InteropServices;

namespace Pcrl.Kernels.Cpu;

/// <summary>Zeroed memory outside the garbage collector's heap, aligned for any vector.</summary>
internal sealed unsafe class NativeBuffer : SafeHandle
{
    private const nuint Alignment = 64;

    public NativeBuffer(long bytes)
        : base(0, ownsHandle: true)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        void* memory = NativeMemory.AlignedAlloc((nuint)Math.Max(bytes, 1), Alignment);
        NativeMemory.Clear(memory, (nuint)bytes);
        SetHandle((nint)memory);
        Bytes = bytes;
    }

    public long Bytes { get; }

    public override bool IsInvalid => handle == 0;

    public float* Floats => (float*)Address;

    public void* Address
    {
        get
        {
            ObjectDisposedException.ThrowIf(IsClosed, this);
            return (void*)handle;
        }
    }

    protected override bool ReleaseHandle()
    {
        NativeMemory.AlignedFree((void*)handle);
        return true;
    }
}
