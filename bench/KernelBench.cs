using System.CommandLine;
using System.Text.Json;
using Pcrl.Kernels;

namespace Pcrl.Bench;

/// <summary><c>kernels</c>: every operator case alone.</summary>
internal static class KernelBench
{
    /// <summary>One line of the table.</summary>
    private sealed record Row(string Name, string Operator, string Input, double Milliseconds, double GflopPerSecond, double? PercentOfPeak, double RelativeError);

    public static Command Command()
    {
        var device = Options.Device();
        var threads = Options.Threads();
        var seed = Options.Seed();
        var processorTime = Options.ProcessorTime();
        var json = Options.Json();
        var filter = new Option<string>("--filter") { Description = "only cases whose name contains this", DefaultValueFactory = _ => "" };
        filter.Validators.Add(result => Options.Require(result, filter, part => Cases(part!).Any(), "matches the name of no case"));
        var command = new Command("kernels", "Times every operator case on one device and compares it with the reference.") { device, threads, seed, filter, processorTime, json };
        command.SetAction((parsed, cancellation) =>
        {
            using var opened = Device.Open(parsed.GetValue(device), parsed.GetValue(threads));
            Run(opened, parsed.GetValue(seed), parsed.GetValue(filter)!, parsed.GetValue(processorTime), parsed.GetValue(json), cancellation);
            return Task.FromResult(0);
        });
        return command;
    }

    private static void Run(Device device, int seed, string filter, bool processorTime, bool json, CancellationToken cancellation)
    {
        var conditions = Conditions.Of(device, seed);
        double? peak = device.Kind == DeviceKind.Cpu ? FmaPeak.Measure(device.Threads, processorTime) : null;
        if (!json)
        {
            Console.WriteLine(conditions.Markdown);
            if (peak is { } measured)
                Console.WriteLine($"Measured multiply-add peak: {measured:0} GFLOP/s{(processorTime ? " a core" : "")}. {(processorTime ? "Processor time." : "Wall time.")}\n");
            Console.WriteLine("| case | input | ms | GFLOP/s | % of peak | max relative error |\n|---|---|---:|---:|---:|---:|");
        }
        var rows = new List<Row>();
        foreach (var opCase in Cases(filter))
        {
            cancellation.ThrowIfCancellationRequested();
            var row = Measure(device, opCase, seed, peak, processorTime);
            rows.Add(row);
            if (!json)
                Console.WriteLine($"| {row.Name} | {row.Input} | {row.Milliseconds:0.000} | {row.GflopPerSecond:0.0} | {row.PercentOfPeak:0} | {row.RelativeError:0.0e+0} |");
        }
        if (json)
            Console.WriteLine(JsonSerializer.Serialize(new { conditions, peak_gflops = peak, cases = rows }, Json.Readable));
    }

    private static IEnumerable<OpCase> Cases(string filter) => OpCase.All.Where(c => c.Name.Contains(filter, StringComparison.OrdinalIgnoreCase));

    private static Row Measure(Device device, OpCase opCase, int seed, double? peak, bool processorTime)
    {
        var data = opCase.Data(seed);
        using var layer = device.Prepare(opCase.Operator, opCase.Input, data.Weight, data.Bias);
        using var input = device.NewTensor(opCase.Input);
        using var output = device.NewTensor(layer.Output);
        using var residual = opCase.Residual ? device.NewTensor(layer.Output) : null;
        input.Write(data.X);
        residual?.Write(data.Residual);
        double seconds = Timing.Median(() => layer.Run(input, output, residual), device, processorTime);
        double rate = opCase.Flops / seconds / 1e9;
        return new(opCase.Name, opCase.Operator.GetType().Name, opCase.Input.ToString(), seconds * 1e3, rate, rate / peak * 100,
            opCase.RelativeError(data, output.ToArray(), samples: 5000, seed));
    }
}
