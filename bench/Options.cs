using System.CommandLine;
using Pcrl.Kernels;

namespace Pcrl.Bench;

/// <summary>Options that several benchmarks share.</summary>
internal static class Options
{
    public static Option<DeviceKind> Device() => new("--device") { Description = "auto, cpu, cuda or opencl", DefaultValueFactory = _ => DeviceKind.Auto };

    public static Option<int> Threads() => new("--threads") { Description = "CPU threads, 0 for one per core" };

    public static Option<int> Seed() => new("--seed") { Description = "seed of weights and inputs", DefaultValueFactory = _ => 1 };

    public static Option<bool> ProcessorTime() => new("--processor-time") { Description = "processor time in place of wall time, for busy machines; use it with --threads 1" };

    public static Option<bool> Json() => new("--json") { Description = "JSON in place of markdown" };
}
