using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using Pcrl.Kernels;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Vision;

namespace Pcrl.Bench;

/// <summary><c>threads</c>: what more threads bring to the visual path of a bundle on the CPU, turn by turn in one process.</summary>
internal static class ThreadsBench
{
    private sealed record Row(int Threads, int Lanes, double P50, double P95, double Processor, double TimesOne);

    public static Command Command()
    {
        var bundle = Bundles.Option("mini");
        var rounds = Options.Rounds(200);
        var (seed, json) = (Options.Seed(), Options.Json());
        var threads = Options.Number("--threads", "most CPU threads, 0 for one per core", 0, least: 0, most: 256);
        var command = new Command("threads", "Times the visual path of a bundle on the CPU with 1, 2, 4 … threads, turn by turn.") { bundle, threads, seed, rounds, json };
        command.SetAction((parsed, cancellation) =>
        {
            Run(parsed.GetValue(bundle)!, parsed.GetValue(threads), parsed.GetValue(rounds), parsed.GetValue(seed), parsed.GetValue(json), cancellation);
            return Task.FromResult(0);
        });
        return command;
    }

    private static void Run(string folder, int most, int rounds, int seed, bool json, CancellationToken cancellation)
    {
        const int Slices = 24;
        var bundle = Bundle.Open(folder, cancellation);
        var config = bundle.Manifest.Visual;
        float[] study = SeededWeights.Study(config, Slices, seed);
        var contenders = new List<(Device Device, VisualEncoder Encoder, List<double> Wall, List<double> Processor)>();
        try
        {
            most = most > 0 ? most : Environment.ProcessorCount;
            for (int threads = 1; threads < 2 * most; threads *= 2)
            {
                var device = Device.Open(DeviceKind.Cpu, Math.Min(threads, most));
                contenders.Add((device, VisualGguf.Load(bundle.VisualPath, config, device, Slices), [], []));
            }
            foreach (var (_, encoder, _, _) in contenders)
                encoder.Encode(study, cancellation);
            for (int round = 0; round < rounds; round++)
            {
                foreach (var (_, encoder, wall, processor) in contenders)
                {
                    var (clock, cpu) = (Timing.Now(processorTime: false), Timing.Now(processorTime: true));
                    encoder.Encode(study, cancellation);
                    wall.Add((Timing.Now(processorTime: false) - clock).TotalMilliseconds);
                    Thread.Sleep(2); // what helpers spin away behind the study counts too, and to this one
                    processor.Add((Timing.Now(processorTime: true) - cpu).TotalMilliseconds);
                }
            }
            double one = contenders[0].Wall.Median();
            Row[] rows = [.. contenders.Select(c => new Row(c.Device.Threads, Passage.Of(config, c.Device, Slices).Trunk.Lanes, c.Wall.Median(), c.Wall.Quantile(0.95), c.Processor.Average(), one / c.Wall.Median()))];
            Print(Conditions.Of(contenders[^1].Device, seed), bundle.Manifest.Model, rounds, rows, json);
        }
        finally
        {
            foreach (var (device, encoder, _, _) in contenders)
            {
                encoder.Dispose();
                device.Dispose();
            }
        }
    }

    private static void Print(Conditions conditions, string model, int rounds, Row[] rows, bool json)
    {
        if (json)
        {
            Console.WriteLine(JsonSerializer.Serialize(new { conditions, model, rounds, threads = rows }, Json.Readable));
            return;
        }
        Console.WriteLine(conditions.Markdown);
        Console.WriteLine($"Visual path of {model}, 24 slices, {rounds} rounds; processor time is a mean and includes what threads wait awake.\n");
        Console.WriteLine("| threads | lanes | p50 ms | p95 ms | processor ms | times one thread |\n|---:|---:|---:|---:|---:|---:|");
        foreach (var row in rows)
            Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"| {row.Threads} | {row.Lanes} | {row.P50:0.00} | {row.P95:0.00} | {row.Processor:0.00} | {row.TimesOne:0.00} |"));
    }
}
