using System.CommandLine;
using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using System.Text.Json;
using Pcrl.Kernels;
using Pcrl.Kernels.Gpu;
using Pcrl.Runtime;
using Pcrl.Runtime.Vision;

namespace Pcrl.Bench;

/// <summary>
/// <c>gpu</c>: everything there is to measure on a card, in one go. First every operator case against the reference, in both precisions; only
/// if all are right, the whole encoder turn by turn with PyTorch on the same card.
/// </summary>
internal static class GpuBench
{
    private static readonly string[] TorchKinds = ["fp32 eager", "tf32 eager", "tf32 compile", "fp16 eager", "fp16 compile", "bf16 eager", "bf16 compile"];

    /// <summary>Seconds of a study from pixels on the host to tokens on the host, and with the pixels on the card already.</summary>
    private sealed record Sample(double Whole, double Resident);

    /// <summary>An operator case in one precision.</summary>
    private sealed record Check(string Precision, string Name, double RelativeError, double Tolerance, bool Passed);

    /// <summary>One way of encoding: its rounds, and the lowest cosine of a token to that of the CPU.</summary>
    private sealed record Contender(string Name, List<Sample> Samples, double LowestCosine)
    {
        public double Median(Func<Sample, double> of) => Samples.Select(of).Median();
    }

    public static Command Command()
    {
        var device = new Option<DeviceKind>("--device") { Description = "cuda; emulator to try the command out without a card", DefaultValueFactory = _ => DeviceKind.Cuda };
        device.AcceptOnlyFromAmong("cuda", "emulator");
        var seed = Options.Seed();
        var (rounds, slices) = (Options.Rounds(15), Options.Slices(24));
        var tiny = new Option<bool>("--tiny") { Description = "a network of a few thousand weights, to try the command out" };
        var python = new Option<string>("--python") { Description = "Python with PyTorch", DefaultValueFactory = _ => "python3" };
        var torch = new Option<string[]>("--torch")
        {
            Description = "kinds of PyTorch to race against, comma-separated", DefaultValueFactory = _ => TorchKinds, CustomParser = argument => argument.Tokens[0].Value.Split(','), Arity = ArgumentArity.ExactlyOne,
        };
        var tiles = new Option<bool>("--tiles") { Description = "time every layer with every tile too" };
        torch.Validators.Add(result => Options.Require(result, torch, kinds => kinds!.All(TorchKinds.Contains), $"must be among {string.Join(", ", TorchKinds)}"));
        var output = new Option<string>("--output") { Description = "folder for gpu.md and gpu.json", DefaultValueFactory = _ => "runs" };
        var command = new Command("gpu", "Checks every operator case on a CUDA card, then times the visual path against PyTorch on the same card.")
        {
            device, seed, rounds, slices, tiny, python, torch, tiles, output,
        };
        command.SetAction((parsed, cancellation) => Task.FromResult(Run(parsed.GetValue(device), parsed.GetValue(seed), parsed.GetValue(rounds), parsed.GetValue(slices),
            parsed.GetValue(tiny), parsed.GetValue(python)!, parsed.GetValue(torch)!, parsed.GetValue(tiles), parsed.GetValue(output)!, cancellation)));
        return command;
    }

    private static int Run(DeviceKind kind, int seed, int rounds, int slices, bool tiny, string python, string[] torch, bool tiles, string output,
        CancellationToken cancellation)
    {
        OutputFolder.Make(output);
        var devices = new List<GpuDevice>();
        var text = new StringBuilder();
        try
        {
            foreach (var precision in kind == DeviceKind.Emulator ? [Precision.Fp32] : Enum.GetValues<Precision>())
            {
                var opened = Device.Open(kind, precision: precision);
                if (opened is not GpuDevice gpu || gpu.Precision != precision)
                {
                    Console.Error.WriteLine($"{precision.ToString().ToLowerInvariant()} does not run here: {opened.Choice}");
                    opened.Dispose();
                    return 1;
                }
                devices.Add(gpu);
            }
            var conditions = Conditions.Of(devices[^1], seed);
            Say(text, conditions.Markdown);
            var checks = devices.SelectMany(d => CheckAll(d, seed, cancellation)).ToList();
            Say(text, $"{checks.Count(c => c.Passed)} of {checks.Count} operator cases agree with the reference; largest errors: "
                + string.Join(", ", checks.GroupBy(c => c.Precision).Select(g => $"{g.Key} {g.Max(c => c.RelativeError):0.0e+0}")) + ".\n");
            foreach (var wrong in checks.Where(c => !c.Passed))
                Say(text, $"WRONG: {wrong.Name} in {wrong.Precision}: relative error {wrong.RelativeError:0.0e+0}, {wrong.Tolerance:0.0e+0} allowed  ");
            bool right = checks.All(c => c.Passed);
            var layers = right && tiles && devices[^1].Precision == Precision.Bf16 ? GpuTiles.Measure(devices[^1], slices, seed, cancellation) : [];
            foreach (string line in layers.Count > 0 ? GpuTiles.Table(layers) : [])
                Say(text, line);
            var (contenders, versions) = right ? Race(devices, seed, rounds, slices, tiny, python, torch, text, cancellation) : ([], "");
            AtomicFile.WriteText(Path.Combine(output, "gpu.md"), text.ToString());
            AtomicFile.WriteText(Path.Combine(output, "gpu.json"), JsonSerializer.Serialize(new { conditions, torch = versions, slices, rounds, checks, layers, contenders }, Json.Readable));
            return right ? 0 : 1;
        }
        finally
        {
            devices.ForEach(d => d.Dispose());
        }
    }

    private static IEnumerable<Check> CheckAll(GpuDevice device, int seed, CancellationToken cancellation)
    {
        double tolerance = device.Precision == Precision.Fp32 ? OpCase.Tolerance : OpCase.Bf16Tolerance;
        foreach (var opCase in OpCase.All.Where(c => device.Kind != DeviceKind.Emulator || c.Flops < 100_000))
        {
            cancellation.ThrowIfCancellationRequested();
            var data = device.Precision == Precision.Fp32 ? opCase.Data(seed) : opCase.Data(seed).Rounded();
            double error = opCase.RelativeError(data, data.Run(device, opCase.Operator, opCase.Input), samples: 3000, seed);
            yield return new Check(device.Precision.ToString().ToLowerInvariant(), opCase.Name, error, tolerance, error <= tolerance);
        }
    }

    private static (List<Contender> Contenders, string Torch) Race(List<GpuDevice> devices, int seed, int rounds, int slices, bool tiny, string python,
        string[] torch, StringBuilder text, CancellationToken cancellation)
    {
        var config = tiny ? new VisualConfig { ImageSize = 16, Depths = [1], Width = 2, Grid = 2, TokenWidth = 4 } : new VisualConfig();
        float[] study = SeededWeights.Study(config, slices, seed);
        string folder = Directory.CreateTempSubdirectory("pcrl-bench-").FullName;
        var encoders = new List<(string Name, Func<Sample> Encode)>();
        var contenders = new List<Contender>();
        var disposables = new Stack<IDisposable>();
        try
        {
            string path = Path.Combine(folder, "visual.gguf");
            SeededWeights.Save(path, config, seed);
            float[] truth;
            using (var cpu = Device.Open(DeviceKind.Cpu))
            using (var encoder = VisualGguf.Load(path, config, cpu, slices))
                truth = encoder.Encode(study, cancellation);

            foreach (var device in devices)
            {
                var encoder = VisualGguf.Load(path, config, device, slices);
                disposables.Push(encoder);
                var tokens = new float[truth.Length];
                encoder.Encode(study, tokens, [], cancellation);
                string name = "Pcrl " + device.Precision.ToString().ToLowerInvariant();
                contenders.Add(new Contender(name, [], EncoderBench.LowestCosine(truth, tokens, config.TokenWidth)));
                encoders.Add((name, () => new Sample(
                    Seconds(() => encoder.Encode(study, tokens, [], cancellation), device), Seconds(encoder.RunResident, device))));
                Console.WriteLine($"{name}: {string.Join(", ", Enumerable.Range(0, 5).Select(_ => $"{encoders[^1].Encode().Resident * 1e3:0.00}"))} ms resident");
            }

            var (peer, problem) = TorchPeer.Start(python, config, study, seed, folder);
            if (peer is null)
                Say(text, $"PyTorch was not measured: {problem}  ");
            else
                disposables.Push(peer);
            foreach (string kind in peer is null ? [] : torch)
            {
                var first = peer!.Encode(kind);
                if (first.Error is not null)
                {
                    Say(text, $"PyTorch {kind} was not measured: {first.Error}  ");
                    continue;
                }
                float[] tokens = MemoryMarshal.Cast<byte, float>(File.ReadAllBytes(first.Tokens!)).ToArray();
                contenders.Add(new Contender("PyTorch " + kind, [], EncoderBench.LowestCosine(truth, tokens, config.TokenWidth)));
                encoders.Add(("PyTorch " + kind, () => peer.Encode(kind) is { Error: null } answer
                    ? new Sample(answer.Seconds, answer.Resident)
                    : throw new InvalidOperationException($"PyTorch {kind} ran once and failed later")));
            }

            for (int round = 0; round < rounds; round++)
                foreach (var (name, encode) in encoders)
                {
                    cancellation.ThrowIfCancellationRequested();
                    contenders.Single(c => c.Name == name).Samples.Add(encode());
                }
            Table(contenders, rounds, slices, config, peer?.Versions, text);
            return (contenders, peer?.Versions ?? "");
        }
        finally
        {
            while (disposables.TryPop(out var disposable))
                disposable.Dispose();
            Directory.Delete(folder, recursive: true);
        }
    }

    private static void Table(List<Contender> contenders, int rounds, int slices, VisualConfig config, string? versions, StringBuilder text)
    {
        if (versions is not null)
            Say(text, $"PyTorch: {versions}\n");
        Say(text, $"{slices} slices of {config.ImageSize}x{config.ImageSize}, turn by turn, median of {rounds} rounds. \"Whole\": pixels on the host to tokens on the host; \"resident\": pixels on the card, tokens left there. "
            + "The ratios are medians of those within a round: more than 1 means that Pcrl is faster.\n");
        var ours = contenders.Where(c => c.Name.StartsWith("Pcrl", StringComparison.Ordinal)).ToList();
        Say(text, $"| | whole ms | resident ms | lowest cosine to the CPU's tokens |{string.Concat(ours.Select(o => $" {o.Name}, resident |"))}");
        Say(text, $"|---|---:|---:|---:|{string.Concat(ours.Select(_ => "---:|"))}");
        foreach (var contender in contenders)
        {
            var ratios = ours.Select(o => contender.Samples.Zip(o.Samples, (theirs, own) => theirs.Resident / own.Resident).Median());
            Say(text, $"| {contender.Name} | {contender.Median(s => s.Whole) * 1e3:0.00} | {contender.Median(s => s.Resident) * 1e3:0.00} | {contender.LowestCosine:0.000000} |{string.Concat(ratios.Select(r => $" {r:0.00} |"))}");
        }
    }

    private static void Say(StringBuilder text, string line)
    {
        Console.WriteLine(line);
        text.AppendLine(line);
    }

    private static double Seconds(Action action, Device device)
    {
        device.Synchronize();
        long start = Stopwatch.GetTimestamp();
        action();
        device.Synchronize();
        return Stopwatch.GetElapsedTime(start).TotalSeconds;
    }
}
