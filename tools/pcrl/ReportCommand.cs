using System.CommandLine;
using System.Diagnostics;
using Pcrl.Kernels;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Runtime.Reports;
using Pcrl.Runtime.Studies;

namespace Pcrl.Tools;

/// <summary><c>pcrl report STUDY</c>: streams the draft to the terminal, or prints one JSON object.</summary>
internal static class ReportCommand
{
    public static Command Create()
    {
        var study = StudyOptions.Study();
        var window = StudyOptions.Window();
        var bundle = new Option<string>("--bundle")
        {
            Description = "Folder of the model bundle.",
            DefaultValueFactory = _ => Path.Combine(AppContext.BaseDirectory, "models", "mini"),
        };
        var json = new Option<bool>("--json") { Description = "Print one JSON object instead of text." };
        var output = new Option<string?>("--output", "-o") { Description = "Write to this file instead of the terminal." };
        var seed = new Option<ulong>("--seed") { Description = "Seed of the draw: the same seed gives the same text." };
        var temperature = new Option<float?>("--temperature") { Description = "Divisor of the logits, 0 for greedy; default: the bundle's." };
        var topP = new Option<float?>("--top-p") { Description = "Mass of the nucleus, over 0 to 1; default: the bundle's." };
        var maxTokens = new Option<int?>("--max-tokens") { Description = "Longest report in tokens; default: the bundle's." };
        var threads = new Option<int>("--threads") { Description = "CPU threads, at most one per core; 0 for one per core." };
        var device = new Option<DeviceKind>("--device") { Description = "Where the vision kernels run." };
        device.AcceptOnlyFromAmong("auto", "cpu", "cuda", "opencl"); // or any number would do, and the emulator of the tests
        var precision = new Option<Precision>("--precision") { Description = "Precision of the vision kernels on a GPU." };
        precision.AcceptOnlyFromAmong("fp32", "bf16");
        var command = new Command("report", "Write a draft report of a brain CT study.")
        {
            study, bundle, json, output, seed, temperature, topP, maxTokens, threads, device, precision, window,
        };
        command.SetAction(async (arguments, cancellation) =>
        {
            var options = new ReporterOptions { Device = arguments.GetValue(device), Precision = arguments.GetValue(precision), Threads = arguments.GetValue(threads) };
            SamplingOptions Sampling(SamplingDefaults defaults) => new()
            {
                Temperature = arguments.GetValue(temperature) ?? defaults.Temperature,
                TopP = arguments.GetValue(topP) ?? defaults.TopP,
                MaxTokens = arguments.GetValue(maxTokens) ?? defaults.MaxTokens,
                Seed = arguments.GetValue(seed),
            };
            await RunAsync(
                arguments.GetValue(study)!, WindowChoice.Parse(arguments.GetValue(window)!), arguments.GetValue(bundle)!, options, Sampling,
                arguments.GetValue(json), arguments.GetValue(output), cancellation);
            return 0;
        });
        return command;
    }

    private static async Task RunAsync(
        string path, WindowChoice window, string bundle, ReporterOptions options, Func<SamplingDefaults, SamplingOptions> sampling,
        bool json, string? output, CancellationToken cancellation)
    {
        var clock = Stopwatch.StartNew();
        // What is wrong with the command line is said before the work, not after it.
        sampling(new SamplingDefaults(Temperature: 0, TopP: 1, MaxTokens: 1)).Check();
        if (output is not null)
            AtomicFile.CheckTarget(output);
        // Loading the model and reading the study need nothing of each other.
        var reading = Task.Run(() => Reporter.Read(path, cancellation), cancellation);
        using var reporter = Reporter.Open(bundle, options, cancellation);
        var prepared = reporter.Prepare(await reading, window);

        bool streams = !json && output is null, begun = false;
        Report? report = null;
        await foreach (var piece in reporter.WriteAsync(prepared, sampling(reporter.Manifest.Sampling), cancellation))
        {
            if (!begun)
            {
                // Not earlier: a failure is one line on stderr and leaves stdout empty.
                if (streams)
                    Console.WriteLine(Report.DraftNotice);
                await Console.Error.WriteLineAsync(reporter.Device);
                begun = true;
            }
            if (streams)
                Console.Write(piece.Text);
            report = piece.Report;
        }
        report = report! with { TimingsMs = report.TimingsMs with { Total = clock.Elapsed.TotalMilliseconds } };
        string text = json ? report.ToJson() : $"{Report.DraftNotice}\n{report.Text}";
        if (output is not null)
            AtomicFile.Write(output, stream => stream.Write(System.Text.Encoding.UTF8.GetBytes(text + "\n")));
        else
            Console.WriteLine(streams ? "" : text);
    }
}
