using System.Runtime.InteropServices;

namespace Pcrl.Kernels.Cpu;

/// <summary>
/// Zeros outside the garbage collector's heap, aligned for any vector. A large buffer takes up memory only where it has been written.
/// </summary>
internal sealed unsafe partial class NativeBuffer : SafeHandle
{
    private readonly void* _start; // first aligned byte

    private const nuint LineSize = 64;

    /// <summary>Rows of a tile lie pages apart: with pages of 4 KiB much of the time goes into finding them.</summary>
    private const nuint HugePage = 2 << 20;

    public NativeBuffer(long bytes)
        : base(0, ownsHandle: true)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        bool huge = OperatingSystem.IsLinux() && (nuint)bytes >= HugePage;
        nuint alignment = huge ? HugePage : LineSize;
        void* memory = NativeMemory.AllocZeroed((nuint)bytes + alignment); // fresh pages are zero: only recycled memory is cleared, and so touched
        SetHandle((nint)memory);
        _start = (void*)(((nuint)memory + alignment - 1) / alignment * alignment);
        if (huge)
            _ = Advise(_start, (nuint)bytes / HugePage * HugePage, UseHugePages); // a kernel that refuses leaves small pages, which do as well
        Bytes = bytes;
    }

    public long Bytes { get; }

    private const int UseHugePages = 14; // MADV_HUGEPAGE

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Advise(void* start, nuint length, int advice);

    public override bool IsInvalid => handle == 0;

    public float* Floats => (float*)Address;

    public void* Address
    {
        get
        {
            ObjectDisposedException.ThrowIf(IsClosed, this);
            return _start;
        }
    }

    protected override bool ReleaseHandle()
    {
        NativeMemory.Free((void*)handle);
        return true;
    }
}
