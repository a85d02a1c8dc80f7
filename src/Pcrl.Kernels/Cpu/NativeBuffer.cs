using System.Runtime.InteropServices;

namespace Pcrl.Kernels.Cpu;

/// <summary>Zeroed memory outside the garbage collector's heap, aligned for any vector.</summary>
internal sealed unsafe partial class NativeBuffer : SafeHandle
{
    private const nuint LineSize = 64;

    /// <summary>Rows of a tile lie pages apart: with pages of 4 KiB much of the time goes into finding them.</summary>
    private const nuint HugePage = 2 << 20;

    public NativeBuffer(long bytes)
        : base(0, ownsHandle: true)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(bytes);
        bool huge = OperatingSystem.IsLinux() && (nuint)bytes >= HugePage;
        void* memory = NativeMemory.AlignedAlloc((nuint)Math.Max(bytes, 1), huge ? HugePage : LineSize);
        if (huge)
            _ = Advise(memory, (nuint)bytes / HugePage * HugePage, UseHugePages); // a kernel that refuses leaves small pages, which do as well
        NativeMemory.Clear(memory, (nuint)bytes);
        SetHandle((nint)memory);
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
            return (void*)handle;
        }
    }

    protected override bool ReleaseHandle()
    {
        NativeMemory.AlignedFree((void*)handle);
        return true;
    }
}
