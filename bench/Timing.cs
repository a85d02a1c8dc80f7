using System.Diagnostics;
using System.Text.Json;
using Pcrl.Kernels;

namespace Pcrl.Bench;

/// <summary>How long something takes, and what of many times counts.</summary>
internal static class Timing
{
    private const int Rounds = 7;
    private const double ShortestRound = 0.02;

    /// <summary>Median over seven rounds of the seconds of one call; a round repeats the call until it lasts long enough to be measured.</summary>
    public static double Median(Action action, Device device, bool processorTime)
    {
        action();
        device.Synchronize();
        int calls = 1;
        double seconds;
        while ((seconds = Round(action, device, calls, processorTime)) < ShortestRound)
            calls = seconds < ShortestRound / 10 ? calls * 8 : calls * 2;
        return Enumerable.Range(0, Rounds).Select(_ => Round(action, device, calls, processorTime) / calls).Median();
    }

    /// <summary>The middle one; 0 where there are none.</summary>
    public static double Median(this IEnumerable<double> values) => values.Quantile(0.5);

    /// <summary>The value that a share of them lie below; 0 where there are none.</summary>
    public static double Quantile(this IEnumerable<double> values, double share)
    {
        double[] sorted = [.. values.Order()];
        return sorted.Length == 0 ? 0 : sorted[Math.Min((int)(share * sorted.Length), sorted.Length - 1)];
    }

    /// <summary>Wall time, or the processor time of all threads of this process, since some moment.</summary>
    public static TimeSpan Now(bool processorTime) => processorTime ? Environment.CpuUsage.TotalTime : Stopwatch.GetElapsedTime(0);

    private static double Round(Action action, Device device, int calls, bool processorTime)
    {
        var start = Now(processorTime);
        for (int i = 0; i < calls; i++)
            action();
        device.Synchronize();
        return (Now(processorTime) - start).TotalSeconds;
    }
}

/// <summary>How JSON is printed.</summary>
internal static class Json
{
    public static JsonSerializerOptions Readable { get; } = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };
}
