using System.CommandLine;
using System.Text.Json;
using Pcrl.Kernels;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Runtime.Studies;
using Pcrl.Runtime.Vision;

namespace Pcrl.Bench;

/// <summary><c>decode</c>: how fast texts come, against llama.cpp's plain loop, turn by turn in one process.</summary>
internal static class DecodeBench
{
    private static readonly int[] Widths = [1, 2, 4, 8, 16];

    public static Command Command()
    {
        var studies = new Argument<string>("STUDIES") { Description = "A study or a folder of studies; their visual tokens begin the texts", DefaultValueFactory = _ => Path.Combine(Bundles.Root, "samples") };
        var bundle = Bundles.Option("characters");
        var shape = new Option<string>("--shape") { Description = "bundle, or 1b or 8b: the bundle's LLM in the shape of a larger one, Q4_K_M", DefaultValueFactory = _ => "bundle" };
        shape.AcceptOnlyFromAmong(["bundle", .. WideLlm.Shapes.Keys]);
        var texts = new Option<int>("--texts") { Description = "texts that each way of decoding writes", DefaultValueFactory = _ => 6 };
        var temperature = new Option<float>("--temperature") { Description = "0 for greedy", DefaultValueFactory = _ => 0.6f };
        var parallel = new Option<int>("--parallel") { Description = "texts at once in the last measurement; 0 to leave it out", DefaultValueFactory = _ => 16 };
        var (threads, seed, processorTime, json) = (Options.Threads(), Options.Seed(), Options.ProcessorTime(), Options.Json());
        var command = new Command("decode", "Times the writing of reports: llama.cpp's plain loop, ours without and with speculation, and many at once.")
        {
            studies, bundle, shape, texts, temperature, parallel, threads, seed, processorTime, json,
        };
        command.SetAction((parsed, cancellation) =>
        {
            string folder = Directory.CreateTempSubdirectory("pcrl-bench-").FullName;
            try
            {
                var opened = Bundle.Open(parsed.GetValue(bundle)!, cancellation);
                string model = opened.LanguagePath, name = parsed.GetValue(shape)!;
                if (name != "bundle")
                {
                    model = Path.Combine(folder, "llm.gguf");
                    WideLlm.Write(opened.LanguagePath, model, name, quantised: true);
                }
                using var device = Device.Open(DeviceKind.Cpu, parsed.GetValue(threads));
                var inputs = VisualTokens(opened, StudyFolder.List(parsed.GetValue(studies)!), device, cancellation);
                using var language = LanguageModel.Load(model, new LanguageOptions { Threads = device.Threads, ContextLength = opened.Manifest.ContextLength });
                var bench = new DecodeRun(opened, language, inputs, parsed.GetValue(texts),
                    new SamplingOptions { Temperature = parsed.GetValue(temperature), Seed = (ulong)parsed.GetValue(seed) }, parsed.GetValue(processorTime));
                var result = bench.Measure(parsed.GetValue(parallel), Widths, cancellation);
                var conditions = Conditions.Of(device, parsed.GetValue(seed));
                Console.WriteLine(parsed.GetValue(json)
                    ? JsonSerializer.Serialize(new
                    {
                        result.SpeedupVsLlamacpp, result.PlainVsLlamacpp, result.FirstTokenVsPrefill, result.ParallelVsOneByOne,
                        conditions, shape = name, threads = language.Threads, result.Rows, result.Batches, result.SameTexts, result.CacheMib,
                    }, Json.Readable)
                    : $"{conditions.Markdown}LLM: {opened.Manifest.Model}, shape {name}, {language.Threads} threads, "
                        + $"{(parsed.GetValue(processorTime) ? "processor time" : "wall time")}\n\n{result.Markdown}");
            }
            finally
            {
                Directory.Delete(folder, recursive: true);
            }
            return Task.FromResult(0);
        });
        return command;
    }

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
}
