using System.Diagnostics;
using System.Text.Json;
using Pcrl.Kernels;

namespace Pcrl.Bench;

/// <summary>How long something takes.</summary>
internal static class Timing
{
    private const int Rounds = 7;
    private const double ShortestRound = 0.02;

    /// <summary>Median over seven rounds of the seconds of one call; a round repeats the call until it lasts long enough to be measured.</summary>
    public static double Median(Action action, Device device)
    {
        action();
        device.Synchronize();
        int calls = 1;
        double seconds;
        while ((seconds = Round(action, device, calls)) < ShortestRound)
            calls = seconds < ShortestRound / 10 ? calls * 8 : calls * 2;
        double[] rounds = [.. Enumerable.Range(0, Rounds).Select(_ => Round(action, device, calls) / calls).Order()];
        return rounds[Rounds / 2];
    }

    private static double Round(Action action, Device device, int calls)
    {
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < calls; i++)
            action();
        device.Synchronize();
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }
}

/// <summary>How JSON is printed.</summary>
internal static class Json
{
    public static JsonSerializerOptions Readable { get; } = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };
}
