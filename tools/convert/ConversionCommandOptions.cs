using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using Pcrl.Convert;

namespace Pcrl.Tools;

/// <summary>The options that both conversions have.</summary>
internal static class ConversionCommandOptions
{
    public static readonly Option<LlmType> Type = new Option<LlmType>("--type")
    {
        Description = "What the language model is stored as", DefaultValueFactory = _ => LlmType.F32,
    }.AcceptOnlyFromAmong(Enum.GetNames<LlmType>());

    public static readonly Option<string[]> Accept = new Option<string[]>("--accept")
    {
        Description = "Keep the result although this figure is beyond its limit; may be given several times",
    }.AcceptOnlyFromAmong([.. ParityFigures.Names]);

    public static readonly Option<AdapterBase?> TrainedOn = new Option<AdapterBase?>("--trained-on")
    {
        Description = "The base that the adapter was trained on [default: what the configuration says, else Nf4]",
    }.AcceptOnlyFromAmong(Enum.GetNames<AdapterBase>());

    public static readonly Option<AdapterBase?> MergeOnto = new Option<AdapterBase?>("--merge-onto")
    {
        Description = "The base that the adapter is added to [default: the one it was trained on]",
    }.AcceptOnlyFromAmong(Enum.GetNames<AdapterBase>());

    public static ConversionOptions Read(ParseResult parsed) => new()
    {
        LanguageType = parsed.GetValue(Type),
        TrainedOn = parsed.GetValue(TrainedOn),
        MergeOnto = parsed.GetValue(MergeOnto),
        Accepted = parsed.GetValue(Accept) ?? [],
        Say = Console.Error.WriteLine,
        Progress = new WriteProgress().Report,
    };

    /// <summary>One line on stderr with the rate and the time left; rewritten in place on a terminal.</summary>
    private sealed class WriteProgress
    {
        private readonly bool _terminal = !Console.IsErrorRedirected;
        private readonly Stopwatch _clock = new(), _sinceLast = new();
        private long _first;

        public void Report(long done, long total)
        {
            if (!_clock.IsRunning)
            {
                _first = done; // what an earlier process has written costs this one nothing
                _clock.Start();
                _sinceLast.Start();
                return;
            }
            bool last = done == total;
            if (!last && _sinceLast.ElapsedMilliseconds < (_terminal ? 200 : 10_000))
                return;
            _sinceLast.Restart();
            double seconds = Math.Max(1e-3, _clock.Elapsed.TotalSeconds), rate = (done - _first) / seconds;
            string time = last ? $"in {seconds.ToString("0.0", CultureInfo.InvariantCulture)} s" : $"{Span(TimeSpan.FromSeconds((total - done) / rate))} left";
            string line = string.Create(CultureInfo.InvariantCulture, $"{done / 1e9:0.00} of {total / 1e9:0.00} GB, {rate / 1e6:0} MB/s, {time}");
            if (_terminal)
                Console.Error.Write("\r" + line.PadRight(60) + (last ? "\n" : ""));
            else
                Console.Error.WriteLine(line);
        }

        private static string Span(TimeSpan span) => $"{(int)span.TotalMinutes}:{span.Seconds:00}";
    }
}
