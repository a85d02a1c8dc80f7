using System.Diagnostics;
using System.Globalization;

namespace Pcrl.Tools;

/// <summary>Most memory that this process ever had in use.</summary>
internal static class PeakMemory
{
    /// <summary>In GiB, two decimals.</summary>
    public static string Gibibytes => (Process.GetCurrentProcess().PeakWorkingSet64 / (double)(1L << 30)).ToString("0.00", CultureInfo.InvariantCulture);
}
