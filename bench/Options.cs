using System.CommandLine;
using System.CommandLine.Parsing;
using Pcrl.Kernels;
using Pcrl.Runtime.Studies;

namespace Pcrl.Bench;

/// <summary>Options that several benchmarks share.</summary>
internal static class Options
{
    public static Option<DeviceKind> Device() => new Option<DeviceKind>("--device") { Description = "of the vision kernels [default: auto]" }
        .AcceptOnlyFromAmong("auto", "cpu", "cuda", "opencl");

    public static Option<int> Threads() => Number("--threads", "CPU threads, 0 for one per core", 0, least: 0, most: 256);

    public static Option<int> Rounds(int usual) => Number("--rounds", "timed rounds; the median counts", usual, least: 1, most: 100_000);

    public static Option<int> Slices(int usual) => Number("--slices", "slices of the study", usual, least: 1, most: StudyReader.MaximumSlices);

    public static Option<int> Seed() => Number("--seed", "seed of weights and inputs", 1, least: 0);

    /// <summary>A number within limits, which is refused in one line outside of them.</summary>
    public static Option<int> Number(string name, string description, int usual, int least, int most = int.MaxValue)
    {
        var option = new Option<int>(name) { Description = description, DefaultValueFactory = _ => usual };
        option.Validators.Add(result => Require(result, option, value => value >= least && value <= most, most == int.MaxValue ? $"must be {least} or more" : $"must be {least} to {most}"));
        return option;
    }

    public static Option<bool> ProcessorTime() => new("--processor-time") { Description = "processor time in place of wall time, for busy machines; use it with --threads 1" };

    /// <summary>Refuses a value that is out of range, in one line.</summary>
    public static void Require<T>(OptionResult result, Option<T> option, Func<T?, bool> holds, string what)
    {
        if (!result.Errors.Any() && !holds(result.GetValue(option)))
            result.AddError($"{option.Name} {what}");
    }

    public static Option<bool> Json() => new("--json") { Description = "JSON in place of markdown" };
}
