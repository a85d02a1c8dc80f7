using System.CommandLine;
using System.Diagnostics;
using System.Text.Json;
using Pcrl.Kernels;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Runtime.Studies;
using Pcrl.Runtime.Vision;

namespace Pcrl.Bench;

/// <summary><c>decode</c>: how fast texts come, against llama.cpp's plain loop, turn by turn in one process.</summary>
internal static class DecodeBench
{
    private static readonly int[] Widths = [1, 2, 3, 4, 5, 6, 8, 12, 16];

    public static Command Command()
    {
        var studies = new Argument<string>("STUDIES") { Description = "A study or a folder of studies; their visual tokens begin the texts", DefaultValueFactory = _ => Path.Combine(Bundles.Root, "samples") };
        var bundle = Bundles.Option("characters");
        var shape = new Option<string>("--shape") { Description = "bundle, or the bundle's LLM in the shape of a larger one: 40m (BF16), 40m-q4_k_m, 1b or 8b (Q4_K_M)", DefaultValueFactory = _ => "bundle" };
        shape.AcceptOnlyFromAmong(["bundle", .. WideLlm.Shapes.Keys]);
        var texts = Options.Number("--texts", "texts that each way of decoding writes", 6, least: 1, most: 100_000);
        var mostTokens = Options.Number("--max-tokens", "longest text", 256, least: 2, most: 100_000);
        var temperature = new Option<float>("--temperature") { Description = "0 for greedy", DefaultValueFactory = _ => 0.6f };
        var drafts = new Option<int[]>("--drafts") { Description = "longest drafts to try, 1 to 31; the decoder's own choice if not given", AllowMultipleArgumentsPerToken = true };
        var parallel = new Option<int>("--parallel") { Description = "texts at once in the last measurement, 2 to 30; 0 to leave it out", DefaultValueFactory = _ => 16 };
        var costs = new Option<bool>("--costs") { Description = "write no texts in the larger shape: what its batches take, combined with the acceptance of the bundle's own LLM" };
        var output = new Option<string?>("--output", "-o") { Description = "folder that gets decode.md and decode.json" };
        var device = new Option<LanguageDevice>("--device") { Description = "of the language model: auto, cpu, cuda or vulkan", DefaultValueFactory = _ => LanguageDevice.Cpu };
        device.AcceptOnlyFromAmong("auto", "cpu", "cuda", "vulkan");
        var (threads, seed, processorTime, json) = (Options.Threads(), Options.Seed(), Options.ProcessorTime(), Options.Json());
        parallel.Validators.Add(result => Options.Require(result, parallel, value => value is 0 or >= 2 and <= BatchDecoder.MostSequences, "must be 0 or 2 to 30"));
        drafts.Validators.Add(result => Options.Require(result, drafts, values => values!.All(value => value is >= 1 and <= 31), "must be 1 to 31"));
        var command = new Command("decode", "Times the writing of reports: llama.cpp's plain loop, ours without and with speculation, and many at once.")
        {
            studies, bundle, shape, texts, mostTokens, temperature, drafts, parallel, costs, output, device, threads, seed, processorTime, json,
        };
        command.SetAction((parsed, cancellation) =>
        {
            string? target = parsed.GetValue(output);
            if (target is not null)
                OutputFolder.Make(target); // said before the work, not after it
            string folder = Directory.CreateTempSubdirectory("pcrl-bench-").FullName;
            try
            {
                var opened = Bundle.Open(parsed.GetValue(bundle)!, cancellation);
                string model = opened.LanguagePath, name = parsed.GetValue(shape)!;
                var clock = Stopwatch.StartNew();
                if (name != "bundle")
                {
                    model = Path.Combine(folder, "llm.gguf");
                    WideLlm.Write(opened.LanguagePath, model, name);
                    Console.Error.WriteLine($"{new FileInfo(model).Length >> 20} MiB of shape {name} written in {clock.Elapsed.TotalSeconds:0.0} s");
                }
                using var cpu = Device.Open(DeviceKind.Cpu, parsed.GetValue(threads));
                clock.Restart();
                using var language = LanguageModel.Load(model, new LanguageOptions { Device = parsed.GetValue(device), Threads = cpu.Threads, ContextLength = opened.Manifest.ContextLength });
                Console.Error.WriteLine($"{language.Choice}; loaded in {clock.Elapsed.TotalSeconds:0.0} s");
                var sampling = new SamplingOptions { Temperature = parsed.GetValue(temperature), Seed = (ulong)parsed.GetValue(seed), MaxTokens = parsed.GetValue(mostTokens) };
                int?[] lengths = parsed.GetValue(drafts) is { Length: > 0 } given ? [.. given.Cast<int?>()] : [null];
                var inputs = VisualTokens(opened, StudyFolder.Look(parsed.GetValue(studies)!).Studies, cpu, cancellation);
                var conditions = Conditions.Of(cpu, parsed.GetValue(seed)) with { Device = language.Choice };
                DecodeRun Run(LanguageModel writer) => new(
                    opened, writer, [.. inputs.Select(rows => Widened(rows, opened.Manifest.Visual.TokenWidth, writer.Width))], parsed.GetValue(texts), lengths, sampling, parsed.GetValue(processorTime));
                (string Markdown, object Figures) Texts()
                {
                    var result = Run(language).Measure(parsed.GetValue(parallel), Widths, cancellation);
                    return (result.Markdown, new
                    {
                        result.SpeedupVsLlamacpp, result.PlainVsLlamacpp, result.FirstTokenVsPrefill, result.Parallel, result.ParallelSpeedupVsLlamacpp, result.ParallelVsOneByOne,
                        conditions, model = opened.Manifest.Model, shape = name, threads = language.ContextThreads, studies = inputs.Count, processorTime = parsed.GetValue(processorTime),
                        result.Rows, result.Together, result.Batches, result.SameTexts, result.CacheMib, result.FirstText,
                    });
                }
                (string Markdown, object Figures) Combined()
                {
                    using var writer = LanguageModel.Load(opened.LanguagePath, new LanguageOptions { ContextLength = opened.Manifest.ContextLength });
                    var combined = Run(writer).Combine(language, Widths, cancellation);
                    return (CombinedCost.Markdown(combined), new
                    {
                        speedupVsLlamacpp = combined.Max(c => c.Speedup), combinedWithAcceptanceOf = opened.Manifest.Model,
                        conditions, shape = name, threads = language.ContextThreads, studies = inputs.Count, processorTime = parsed.GetValue(processorTime), batches = combined,
                    });
                }
                var (table, figures) = parsed.GetValue(costs) ? Combined() : Texts();
                string markdown = $"{conditions.Markdown}LLM: {opened.Manifest.Model}, shape {name}, {language.ContextThreads} threads, "
                    + $"{inputs.Count} studies, {(parsed.GetValue(processorTime) ? "processor time" : "wall time")}\n\n{table}";
                string row = JsonSerializer.Serialize(figures, Json.Readable);
                Console.WriteLine(parsed.GetValue(json) ? row : markdown);
                if (target is not null)
                {
                    AtomicFile.WriteText(Path.Combine(target, "decode.md"), markdown);
                    AtomicFile.WriteText(Path.Combine(target, "decode.json"), row);
                }
            }
            finally
            {
                Directory.Delete(folder, recursive: true);
            }
            return Task.FromResult(0);
        });
        return command;
    }

    /// <summary>The visual tokens of the studies, [visual tokens, width] each.</summary>
    private static List<float[]> VisualTokens(Bundle bundle, IReadOnlyList<string> studies, Device device, CancellationToken cancellation)
    {
        var visual = bundle.Manifest.Visual;
        using var encoder = VisualGguf.Load(bundle.VisualPath, visual, device);
        return [.. studies.Select(path =>
        {
            var study = StudyReader.Read(path, cancellation);
            return encoder.Encode(SliceImages.Prepare(study, SliceSelector.Select(study), visual.ImageSize, WindowChoice.Brain), cancellation);
        })];
    }

    /// <summary>Rows of a width with zeros behind them up to a larger one, as <see cref="WideLlm"/> has it.</summary>
    private static float[] Widened(float[] rows, int width, int wider)
    {
        var wide = new float[rows.Length / width * wider];
        for (int row = 0; row < rows.Length / width; row++)
            rows.AsSpan(row * width, width).CopyTo(wide.AsSpan(row * wider));
        return wide;
    }
}
