using System.Diagnostics;
using System.Globalization;
using Pcrl.Train.Fitting;

namespace Pcrl.Tools;

/// <summary>One line per stage on stderr with a bar, the rate, the loss and the time left; rewritten in place on a terminal.</summary>
internal sealed class ConsoleProgress : IProgress<StageProgress>
{
    private const int BarWidth = 24;
    private readonly bool _terminal = !Console.IsErrorRedirected;
    private readonly Stopwatch _sinceLast = Stopwatch.StartNew();
    private string? _stage;

    public void Report(StageProgress p)
    {
        bool last = p.Done == p.Total, first = p.Stage != _stage;
        // A terminal sees ten lines a second, a log file one in ten seconds.
        if (!last && !first && _sinceLast.ElapsedMilliseconds < (_terminal ? 100 : 10_000))
            return;
        _stage = last ? null : p.Stage;
        _sinceLast.Restart();
        int filled = (int)((long)BarWidth * p.Done / Math.Max(1, p.Total));
        string loss = p.Loss is { } value ? string.Create(CultureInfo.InvariantCulture, $", loss {value:0.000}") : "";
        loss += p.Detail is { } detail ? $", {detail}" : "";
        string time = last ? $"in {Span(p.Elapsed)}" : $"{Span(p.Remaining)} left";
        string line = string.Create(CultureInfo.InvariantCulture,
            $"{p.Stage,-9} [{new string('#', filled)}{new string('.', BarWidth - filled)}] {p.Done}/{p.Total} {p.Unit}, {p.Rate:0.0}/s{loss}, {time}");
        if (_terminal)
            Console.Error.Write("\r" + line.PadRight(Math.Max(0, Math.Min(160, Console.WindowWidth - 1))) + (last ? "\n" : ""));
        else
            Console.Error.WriteLine(line);
    }

    private static string Span(TimeSpan span) => $"{(int)span.TotalMinutes}:{span.Seconds:00}";
}
