using System.CommandLine;
using System.Text.Json;
using Pcrl.Kernels;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Vision;

namespace Pcrl.Bench;

/// <summary><c>precision</c>: the trunk at full size in fp32 by our kernels, and in fp32 and less by others, turn by turn in one process.</summary>
internal static class PrecisionBench
{
    /// <summary>One way to run the trunk.</summary>
    /// <param name="Name">What computes in which type.</param>
    /// <param name="Run">Runs all slices.</param>
    /// <param name="Pooled">[slices, C] of the last run.</param>
    private sealed record Way(string Name, Action Run, Func<float[]> Pooled);

    private sealed record Row(string Name, double SecondsPerSlice, double TimesAsFastAsPcrl, double LowestCosine);

    public static Command Command()
    {
        var (threads, seed, json, processorTime) = (Options.Threads(), Options.Seed(), Options.Json(), Options.ProcessorTime());
        var (rounds, slices) = (Options.Rounds(7), Options.Slices(4));
        var command = new Command("precision", "Times the trunk (ResNet101 at 512x512) against ONNX Runtime in fp32 and int8 and, built with -p:TorchPeer=true, libtorch in fp32 and bf16.")
        {
            threads, seed, rounds, slices, processorTime, json,
        };
        command.SetAction((parsed, cancellation) =>
        {
            using var device = Device.Open(DeviceKind.Cpu, parsed.GetValue(threads));
            var conditions = Conditions.Of(device, parsed.GetValue(seed));
            var rows = Measure(device, parsed.GetValue(seed), parsed.GetValue(rounds), parsed.GetValue(slices), parsed.GetValue(processorTime), cancellation);
            if (parsed.GetValue(json))
            {
                Console.WriteLine(JsonSerializer.Serialize(new { conditions, slices = parsed.GetValue(slices), rounds = parsed.GetValue(rounds), trunk = rows }, Json.Readable));
                return Task.FromResult(0);
            }
            Console.WriteLine($"{conditions.Markdown}\n{parsed.GetValue(slices)} slices of 512x512, median of {parsed.GetValue(rounds)} rounds. {(parsed.GetValue(processorTime) ? "Processor time." : "Wall time.")}\n");
            Console.WriteLine("| trunk | ms a slice | times as fast as Pcrl | lowest cosine of the pooled features with Pcrl's |\n|---|---:|---:|---:|");
            foreach (var row in rows)
                Console.WriteLine($"| {row.Name} | {row.SecondsPerSlice * 1e3:0} | {row.TimesAsFastAsPcrl:0.00} | {row.LowestCosine:0.000000} |");
            return Task.FromResult(0);
        });
        return command;
    }

    private static List<Row> Measure(Device device, int seed, int rounds, int slices, bool processorTime, CancellationToken cancellation)
    {
        var config = new VisualConfig();
        string folder = Directory.CreateTempSubdirectory("pcrl-bench-").FullName;
        try
        {
            string path = Path.Combine(folder, "visual.gguf");
            SeededWeights.Save(path, config, seed);
            float[] study = SeededWeights.Study(config, slices, seed);
            using var file = GgufFile.Open(path);
            WeightReader weights = (name, _) => file.Floats(name);
            using var trunk = new VisualTrunk(config, weights, device, slices);
            using var onnx = new OnnxTrunk(config, weights, study, batch: 1, device.Threads);
            using var int8 = new OnnxTrunk(config, weights, study, batch: 1, device.Threads, int8: true);
            List<Way> ways =
            [
                new("Pcrl fp32", () => trunk.Run(study, cancellation), trunk.Pooled.ToArray), new("ONNX Runtime fp32", onnx.Run, () => onnx.Pooled),
                new("ONNX Runtime int8", int8.Run, () => int8.Pooled),
            ];
#if TORCH_PEER
            using var torch = new TorchSharpEncoder(config, weights, study, device.Threads);
            using var torch16 = new TorchSharpEncoder(config, weights, study, device.Threads, TorchSharp.torch.ScalarType.BFloat16);
            ways.Add(new("libtorch fp32, channels last", torch.RunTrunk, () => torch.Pooled));
            ways.Add(new("libtorch bf16, channels last", torch16.RunTrunk, () => torch16.Pooled));
#endif
            foreach (var way in ways)
                way.Run(); // warms up
            double[][] seconds = [.. Enumerable.Range(0, rounds).Select(_ => ways.Select(way =>
            {
                cancellation.ThrowIfCancellationRequested();
                return EncoderBench.Seconds(way.Run, device, processorTime) / slices;
            }).ToArray())];
            double Median(Func<double[], double> of) => seconds.Select(of).Median();
            float[] ours = ways[0].Pooled();
            return [.. ways.Select((way, i) => new Row(way.Name, Median(round => round[i]), Median(round => round[0] / round[i]),
                EncoderBench.LowestCosine(ours, way.Pooled(), config.FeatureChannels)))];
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }
}
