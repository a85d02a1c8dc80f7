using System.Globalization;

namespace Pcrl.Bench;

/// <summary>Peak resident memory of this process, which Linux keeps count of.</summary>
internal static class ProcessMemory
{
    private const string ClearPeak = "5";

    /// <summary>Starts the count anew.</summary>
    public static void ForgetPeak()
    {
        if (File.Exists("/proc/self/clear_refs"))
            File.WriteAllText("/proc/self/clear_refs", ClearPeak);
    }

    /// <summary>Bytes, 0 where the system does not tell.</summary>
    public static long Peak() => !File.Exists("/proc/self/status") ? 0 : File.ReadLines("/proc/self/status")
        .Where(line => line.StartsWith("VmHWM:", StringComparison.Ordinal))
        .Select(line => long.Parse(line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture) << 10)
        .FirstOrDefault();
}
