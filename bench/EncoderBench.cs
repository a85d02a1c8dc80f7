using System.CommandLine;
using System.Diagnostics;
using System.Numerics.Tensors;
using System.Runtime;
using System.Text.Json;
using Pcrl.Kernels;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Vision;

namespace Pcrl.Bench;

/// <summary><c>encoder</c>: the whole visual path at full size against ONNX Runtime and, where it is built in, libtorch, turn by turn in one process.</summary>
internal static class EncoderBench
{
    private const int ScalingSlices = 4;

    /// <summary>Seconds of one round.</summary>
    private sealed record Round(double Trunk, double Whole, double OnnxTrunk, double OnnxWhole, double? TorchTrunk, double? TorchWhole);

    public static Command Command()
    {
        var device = Options.Device();
        var threads = Options.Threads();
        var seed = Options.Seed();
        var json = Options.Json();
        var (rounds, slices) = (Options.Rounds(7), Options.Slices(24));
        var batch = new Option<int>("--onnx-batch") { Description = "slices that ONNX Runtime gets at once", DefaultValueFactory = _ => 1 };
        batch.Validators.Add(result => Options.Require(result, batch, value => value >= 1 && result.GetValue(slices) % value == 0, "must divide the number of slices"));
        var processorTime = Options.ProcessorTime();
        var command = new Command("encoder", "Times the visual path at full size (ResNet101 at 512x512, local branch, projectors) against ONNX Runtime and, built with -p:TorchPeer=true, libtorch, with the same weights.")
        {
            device, threads, seed, rounds, slices, batch, processorTime, json,
        };
        command.SetAction((parsed, cancellation) =>
        {
            using var opened = Device.Open(parsed.GetValue(device), parsed.GetValue(threads));
            Run(opened, parsed.GetValue(seed), parsed.GetValue(rounds), parsed.GetValue(slices), parsed.GetValue(batch),
                parsed.GetValue(processorTime), parsed.GetValue(json), cancellation);
            return Task.FromResult(0);
        });
        return command;
    }

    private static void Run(Device device, int seed, int rounds, int slices, int batch, bool processorTime, bool json, CancellationToken cancellation)
    {
        var config = new VisualConfig();
        var conditions = Conditions.Of(device, seed);
        string folder = Directory.CreateTempSubdirectory("pcrl-bench-").FullName;
        try
        {
            string path = Path.Combine(folder, "visual.gguf");
            SeededWeights.Save(path, config, seed);
            GC.Collect(2, GCCollectionMode.Aggressive);
            float[] study = SeededWeights.Study(config, slices, seed);

            ProcessMemory.ForgetPeak();
            using var encoder = VisualGguf.Load(path, config, device, slices);
            var tokens = new float[encoder.TokenCount * config.TokenWidth];
            encoder.Encode(study, tokens, [], cancellation);
            long peak = ProcessMemory.Peak();

            using var file = GgufFile.Open(path);
            using var onnx = new OnnxEncoder(config, (name, _) => file.Floats(name), study, batch, device.Threads);
            onnx.RunTrunk();
            onnx.RunBranches();
            double agreement = LowestCosine(tokens, [.. onnx.Local, .. onnx.Global], config.TokenWidth);

            (Action Trunk, Action Branches)? torch = null;
#if TORCH_PEER
            using var torchSharp = new TorchSharpEncoder(config, (name, _) => file.Floats(name), study, device.Threads);
            torchSharp.RunTrunk();
            torchSharp.RunBranches();
            agreement = Math.Min(agreement, LowestCosine(tokens, torchSharp.Tokens, config.TokenWidth));
            torch = (torchSharp.RunTrunk, torchSharp.RunBranches);
#endif

            double Seconds(Action action) => EncoderBench.Seconds(action, device, processorTime);
            var results = new List<Round>();
            for (int i = 0; i < rounds; i++)
            {
                cancellation.ThrowIfCancellationRequested();
                double trunk = Seconds(() => encoder.Trunk.Run(study, cancellation));
                double branches = Seconds(() => encoder.RunBranches(tokens, [], cancellation));
                double onnxTrunk = Seconds(onnx.RunTrunk), onnxBranches = Seconds(onnx.RunBranches);
                double? torchTrunk = torch is { } t ? Seconds(t.Trunk) : null;
                results.Add(new(trunk, trunk + branches, onnxTrunk, onnxTrunk + onnxBranches, torchTrunk, torch is { } b ? torchTrunk + Seconds(b.Branches) : null));
            }
            double? scaling = device.Kind == DeviceKind.Cpu && device.Threads > 1 ? Scaling(path, config, device, study, rounds) : null;
            Print(conditions, results, peak, agreement, scaling, slices, batch, processorTime, json);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static void Print(Conditions conditions, List<Round> rounds, long peak, double agreement, double? scaling, int slices, int batch,
        bool processorTime, bool json)
    {
        double Median(Func<Round, double> of) => rounds.Select(of).Median();
        // Turn by turn: what slows the machine down slows all, so the ratio is taken within each round.
        double trunkSpeedup = Median(r => r.OnnxTrunk / r.Trunk), speedup = Median(r => r.OnnxWhole / r.Whole);
        bool torch = rounds[0].TorchWhole is not null;
        if (json)
        {
            Console.WriteLine(JsonSerializer.Serialize(new
            {
                conditions, slices, onnxBatch = batch, processorTime, speedupVsOnnxruntime = speedup, trunkSpeedupVsOnnxruntime = trunkSpeedup,
                speedupVsTorchsharp = torch ? Median(r => r.TorchWhole!.Value / r.Whole) : (double?)null,
                seconds = new { trunk = Median(r => r.Trunk), whole = Median(r => r.Whole), onnxTrunk = Median(r => r.OnnxTrunk), onnxWhole = Median(r => r.OnnxWhole) },
                rounds, peakMib = peak >> 20, peakBytes = peak, lowestTokenCosine = agreement, scaling,
            }, Json.Readable));
            return;
        }
        Console.WriteLine(conditions.Markdown);
        Console.WriteLine($"{slices} slices of 512x512, median of {rounds.Count} rounds; ONNX Runtime gets {batch} at once. {(processorTime ? "Processor time." : "Wall time.")}\n");
        Console.WriteLine("| part | against | Pcrl s | other s | times as fast | lowest | highest |\n|---|---|---:|---:|---:|---:|---:|");
        Line("trunk", "ONNX Runtime", r => r.Trunk, r => r.OnnxTrunk);
        Line("whole encoder", "ONNX Runtime", r => r.Whole, r => r.OnnxWhole);
        if (torch)
        {
            Line("trunk", "libtorch", r => r.Trunk, r => r.TorchTrunk!.Value);
            Line("whole encoder", "libtorch", r => r.Whole, r => r.TorchWhole!.Value);
        }
        Console.WriteLine($"\nLowest cosine between our tokens and theirs: {agreement:0.0000000}  \nPeak memory of loading and encoding: {peak >> 20} MiB ({peak:N0} bytes)");
        if (scaling is { } ratio)
            Console.WriteLine($"Trunk, {Math.Min(slices, ScalingSlices)} slices: all threads {ratio:0.00} times as fast as one");

        void Line(string part, string against, Func<Round, double> ours, Func<Round, double> theirs)
        {
            double Ratio(Round round) => theirs(round) / ours(round);
            Console.WriteLine($"| {part} | {against} | {Median(ours):0.00} | {Median(theirs):0.00} | {Median(Ratio):0.00} | {rounds.Min(Ratio):0.00} | {rounds.Max(Ratio):0.00} |");
        }
    }

    /// <summary>How much faster the device's threads are than one.</summary>
    private static double Scaling(string path, VisualConfig config, Device device, float[] study, int rounds)
    {
        using var file = GgufFile.Open(path);
        using var single = Device.Open(DeviceKind.Cpu, threads: 1);
        int slices = Math.Min(study.Length / (config.ImageSize * config.ImageSize), ScalingSlices);
        using var alone = new VisualTrunk(config, (name, _) => file.Floats(name), single, slices);
        using var together = new VisualTrunk(config, (name, _) => file.Floats(name), device, slices);
        float[] images = study[..(slices * config.ImageSize * config.ImageSize)];
        alone.Run(images);
        together.Run(images);
        return Enumerable.Range(0, rounds).Select(_ => Seconds(() => alone.Run(images), single, processorTime: false) / Seconds(() => together.Run(images), device, processorTime: false)).Median();
    }

    internal static double LowestCosine(ReadOnlySpan<float> ours, ReadOnlySpan<float> theirs, int width)
    {
        double lowest = 1;
        for (int at = 0; at < ours.Length; at += width)
            lowest = Math.Min(lowest, TensorPrimitives.CosineSimilarity(ours.Slice(at, width), theirs.Slice(at, width)));
        return lowest;
    }

    internal static double Seconds(Action action, Device device, bool processorTime)
    {
        var start = Timing.Now(processorTime);
        action();
        device.Synchronize();
        return (Timing.Now(processorTime) - start).TotalSeconds;
    }
}
