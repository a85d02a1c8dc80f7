using System.Globalization;
using System.Runtime.InteropServices;

namespace Pcrl.Runtime;

/// <summary>What a memory-mapped file costs: pages that were read stay in this process's memory until somebody says that they need not.</summary>
public static unsafe partial class MappedMemory
{
    private const int WillNeed = 3, DontNeed = 4, PageOut = 21; // MADV_…

    /// <summary>Says that a part of a mapping is read next: the system fetches it in large pieces, without being waited for.</summary>
    public static void Expect(byte* start, long bytes) => Advise((nuint)start, bytes, WillNeed, whole: true);

    /// <summary>Gives back the pages of a part of a read-only mapping. They come back from the file when they are read again.</summary>
    /// <param name="start">Where the part lies.</param>
    /// <param name="bytes">Its length; pages that hold anything else are kept.</param>
    public static void Release(byte* start, long bytes) => Advise((nuint)start, bytes, DontNeed, whole: false);

    /// <summary>
    /// Until disposed, keeps what this process holds of mapped files below a size, by sending away pages of a file that foreign code has mapped
    /// (llama.cpp a model), as often as needed. They are read again when they are used again, so nothing but time is lost.
    /// </summary>
    /// <param name="path">The file.</param>
    /// <param name="bytes">About how much may stay.</param>
    public static IDisposable KeepBelow(string path, long bytes)
    {
        string name = "/" + Path.GetFileName(path); // the folders may be links
        // Nobody tells when the mapping goes and other memory takes its place: PageOut, unlike DontNeed, does no harm to that.
        void Trim()
        {
            if (Resident() <= bytes)
                return;
            foreach (string line in File.ReadLines("/proc/self/maps").Where(line => line.EndsWith(name, StringComparison.Ordinal)))
            {
                string[] range = line.Split(' ', 2)[0].Split('-');
                nuint first = nuint.Parse(range[0], NumberStyles.HexNumber, CultureInfo.InvariantCulture);
                Advise(first, (long)(nuint.Parse(range[1], NumberStyles.HexNumber, CultureInfo.InvariantCulture) - first), PageOut, whole: false);
            }
        }
        var ended = new ManualResetEventSlim();
        var thread = new Thread(() =>
        {
            while (OperatingSystem.IsLinux() && !ended.Wait(20))
            {
                try
                {
                    Trim();
                }
                catch (IOException)
                {
                    // The next time, then.
                }
            }
        }) { IsBackground = true, Name = "mapped memory" };
        thread.Start();
        return new Ending(ended, thread);
    }

    /// <summary>Bytes of mapped files that this process holds now.</summary>
    private static long Resident()
    {
        const string Field = "RssFile:";
        string? line = File.ReadLines("/proc/self/status").FirstOrDefault(line => line.StartsWith(Field, StringComparison.Ordinal));
        return line is null ? 0 : 1024 * long.Parse(line.AsSpan(Field.Length).Trim().TrimEnd("kB"), CultureInfo.InvariantCulture);
    }

    private static void Advise(nuint first, long bytes, int advice, bool whole)
    {
        if (!OperatingSystem.IsLinux())
            return;
        nuint page = (nuint)Environment.SystemPageSize, end = first + (nuint)bytes;
        first = (whole ? first : first + page - 1) / page * page;
        end = whole ? end : end / page * page;
        if (end > first)
            _ = Advise(first, end - first, advice);
    }

    [LibraryImport("libc", EntryPoint = "madvise")]
    private static partial int Advise(nuint start, nuint length, int advice);

    private sealed class Ending(ManualResetEventSlim ended, Thread thread) : IDisposable
    {
        public void Dispose()
        {
            ended.Set();
            thread.Join();
        }
    }
}
