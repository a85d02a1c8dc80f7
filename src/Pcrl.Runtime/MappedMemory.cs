using System.Runtime.InteropServices;

namespace Pcrl.Runtime;

/// <summary>What a memory-mapped file costs: pages that were read stay in this process's memory until somebody says that they need not.</summary>
public static unsafe partial class MappedMemory
{
    /// <summary>Gives back the pages of a part of a read-only mapping. They come back from the file when they are read again.</summary>
    /// <param name="start">Where the part lies.</param>
    /// <param name="bytes">Its length; pages that hold anything else are kept.</param>
    public static void Release(byte* start, long bytes)
    {
        if (!OperatingSystem.IsLinux())
            return;
        const int DontNeed = 4; // MADV_DONTNEED
        nuint page = (nuint)Environment.SystemPageSize, first = (nuint)start, end = first + (nuint)bytes;
        first = (first + page - 1) / page * page;
        end = end / page * page;
        if (end > first)
            _ = Advise(first, end - first, DontNeed);
    }

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Advise(nuint start, nuint length, int advice);
}
