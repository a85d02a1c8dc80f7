using System.CommandLine;
using System.CommandLine.Parsing;
using Pcrl.Kernels;

namespace Pcrl.Bench;

/// <summary>Options that several benchmarks share.</summary>
internal static class Options
{
    public static Option<DeviceKind> Device() => new("--device") { Description = "auto, cpu, cuda or opencl", DefaultValueFactory = _ => DeviceKind.Auto };

    public static Option<int> Threads() => new("--threads") { Description = "CPU threads, 0 for one per core" };

    public static Option<int> Seed() => new("--seed") { Description = "seed of weights and inputs", DefaultValueFactory = _ => 1 };

    public static Option<bool> ProcessorTime() => new("--processor-time") { Description = "processor time in place of wall time, for busy machines; use it with --threads 1" };

    /// <summary>Refuses a value that is out of range, in one line.</summary>
    public static void Require<T>(OptionResult result, Option<T> option, Func<T?, bool> holds, string what)
    {
        if (!result.Errors.Any() && !holds(result.GetValue(option)))
            result.AddError($"{option.Name} {what}");
    }

    public static Option<bool> Json() => new("--json") { Description = "JSON in place of markdown" };
}
