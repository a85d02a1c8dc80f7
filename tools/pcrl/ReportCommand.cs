using System.CommandLine;
using System.Diagnostics;
using System.Security.Cryptography;
using Pcrl.Kernels;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Runtime.Reports;
using Pcrl.Runtime.Studies;

namespace Pcrl.Tools;

/// <summary>
/// <c>pcrl report STUDY</c>: streams the draft to the terminal, or prints one JSON object; of a folder of studies, one draft after another or
/// one JSON array.
/// </summary>
internal static class ReportCommand
{
    /// <summary>Between two lines about a folder of studies.</summary>
    private static readonly TimeSpan BetweenLines = TimeSpan.FromSeconds(10);

    public static Command Create()
    {
        var study = StudyOptions.Study();
        study.Description += " Or a folder of such studies.";
        var windowOption = StudyOptions.Window();
        var bundleOption = new Option<string>("--bundle")
        {
            Description = "Folder of the model bundle.",
            DefaultValueFactory = _ => Path.Combine(AppContext.BaseDirectory, "models", "mini"),
        };
        var json = new Option<bool>("--json") { Description = "Print JSON instead of text: an object, of a folder of studies an array." };
        var output = new Option<string?>("--output", "-o")
        {
            Description = "Write to this file instead of the terminal. Finished reports of a folder wait in FILE.partial, with which the same command goes on after an interruption.",
        };
        var seed = new Option<ulong>("--seed") { Description = "Seed of the draw: the same seed gives the same text." };
        var temperature = new Option<float?>("--temperature") { Description = "Divisor of the logits, 0 for greedy; default: the bundle's." };
        var topP = new Option<float?>("--top-p") { Description = "Mass of the nucleus, 0 (the likeliest token alone) to 1; default: the bundle's." };
        var maxTokens = new Option<int?>("--max-tokens") { Description = "Longest report in tokens; default: the bundle's." };
        var threads = new Option<int>("--threads") { Description = "CPU threads, at most one per core; 0 for one per core." };
        var device = new Option<string>("--device") { Description = "Where it runs; opencl is for the vision kernels alone, vulkan for the language model alone.", DefaultValueFactory = _ => "auto" };
        device.AcceptOnlyFromAmong([.. ReporterOptions.DeviceNames]);
        var precision = new Option<Precision>("--precision") { Description = "Precision of the vision kernels on a GPU." };
        precision.AcceptOnlyFromAmong("fp32", "bf16");
        var plain = new Option<bool>("--no-speculation") { Description = "Write token by token, without drafts: slower, the same text." };
        var parallel = new Option<int>("--parallel") { Description = "Of a folder of studies, reports written at the same time, 1 to 30.", DefaultValueFactory = _ => 8 };
        var command = new Command("report", "Write a draft report of a brain CT study, or of each study of a folder.")
        {
            study, bundleOption, json, output, seed, temperature, topP, maxTokens, threads, device, precision, windowOption, plain, parallel,
        };
        command.SetAction(async (arguments, cancellation) =>
        {
            var (studies, withoutImages) = StudyFolder.Look(arguments.GetValue(study)!);
            var options = new ReporterOptions
            {
                Precision = arguments.GetValue(precision), Threads = arguments.GetValue(threads),
                Speculation = !arguments.GetValue(plain), Parallel = studies.Count > 1 ? arguments.GetValue(parallel) : 1,
            }.On(arguments.GetValue(device)!);
            SamplingOptions Sampling(SamplingDefaults defaults) => new()
            {
                Temperature = arguments.GetValue(temperature) ?? defaults.Temperature,
                TopP = arguments.GetValue(topP) ?? defaults.TopP,
                MaxTokens = arguments.GetValue(maxTokens) ?? defaults.MaxTokens,
                Seed = arguments.GetValue(seed),
            };
            var window = WindowChoice.Parse(arguments.GetValue(windowOption)!);
            string bundle = arguments.GetValue(bundleOption)!;
            var (asJson, path) = (arguments.GetValue(json), arguments.GetValue(output));
            // What is wrong with the command line is said before the work, not after it.
            Sampling(new SamplingDefaults(Temperature: 0, TopP: 1, MaxTokens: 1)).Check();
            if (arguments.GetValue(parallel) is < 1 or > BatchDecoder.MostSequences)
                throw new InputException("--parallel", $"must be between 1 and {BatchDecoder.MostSequences}");
            if (path is not null)
                AtomicFile.CheckTarget(path, arguments.GetValue(study)!, bundle);
            if (studies is [var single])
            {
                await WriteOneAsync(single, window, bundle, options, Sampling, asJson, path, cancellation);
                return 0;
            }
            if (withoutImages > 0)
                await Console.Error.WriteLineAsync($"{arguments.GetValue(study)}: subfolders passed over for want of a readable image: {withoutImages}".ReplaceLineEndings(" "));
            string folder = Path.TrimEndingDirectorySeparator(arguments.GetValue(study)!);
            return await WriteManyAsync(folder, studies, window, bundle, options, Sampling, asJson, path, cancellation);
        });
        return command;
    }

    private static async Task WriteOneAsync(
        string path, WindowChoice window, string bundle, ReporterOptions options, Func<SamplingDefaults, SamplingOptions> sampling,
        bool json, string? output, CancellationToken cancellation)
    {
        var clock = Stopwatch.StartNew();
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
            AtomicFile.WriteText(output, text);
        else
            Console.WriteLine(streams ? "" : text);
    }

    private static async Task<int> WriteManyAsync(
        string folder, IReadOnlyList<string> studies, WindowChoice window, string bundle, ReporterOptions options, Func<SamplingDefaults, SamplingOptions> sampling,
        bool json, string? output, CancellationToken cancellation)
    {
        using var reporter = Reporter.Open(bundle, options, cancellation);
        var drawn = sampling(reporter.Manifest.Sampling);
        using var unfinished = output is null ? null : new UnfinishedReports(output, Run(), studies);
        await Console.Error.WriteLineAsync(reporter.Device);
        var left = unfinished?.Left ?? studies;
        if (unfinished?.Count > 0)
            await Console.Error.WriteLineAsync($"{unfinished.Path}: goes on behind {unfinished.Count} finished reports".ReplaceLineEndings(" "));
        var clock = Stopwatch.StartNew();
        var (texts, failed, done, told) = (new List<string>(), 0, 0, TimeSpan.Zero);
        string PerMinute(int count) => (count / clock.Elapsed.TotalMinutes).ToString("0.0", System.Globalization.CultureInfo.InvariantCulture);
        try
        {
            await foreach (var outcome in ReportBatch.WriteAsync(reporter, left, window, drawn, cancellation))
            {
                done++;
                // Texts on the terminal are progress enough.
                if ((json || output is not null) && (done == 1 || clock.Elapsed - told > BetweenLines))
                {
                    told = clock.Elapsed;
                    await Console.Error.WriteLineAsync($"{done}/{left.Count} studies, {PerMinute(done)} studies/minute, {told * (left.Count - done) / done:h\\:mm\\:ss} left");
                }
                if (outcome.Report is not { } report)
                {
                    failed++;
                    // Mostly the problem begins with the study's name, or that of a file in it.
                    string problem = outcome.Problem!.StartsWith(outcome.Study, StringComparison.Ordinal) ? outcome.Problem : $"{outcome.Study}: {outcome.Problem}";
                    await Console.Error.WriteLineAsync(problem.ReplaceLineEndings(" "));
                    continue;
                }
                string text = json ? report.ToJson() : $"{outcome.Study}\n{Report.DraftNotice}\n{report.Text}\n";
                if (unfinished is not null)
                    unfinished.Add(outcome.Study, text);
                else if (json)
                    texts.Add(text);
                else
                    Console.WriteLine(text);
            }
        }
        catch (OperationCanceledException) when (unfinished?.Count > 0)
        {
            await Console.Error.WriteLineAsync($"{unfinished.Path}: keeps {unfinished.Count} of {studies.Count} reports; the same command goes on behind them".ReplaceLineEndings(" "));
            throw;
        }
        var all = unfinished?.Texts ?? texts;
        string whole = json ? $"[{string.Join(",\n", all)}]" : string.Join("\n", all);
        if (output is not null)
            AtomicFile.WriteText(output, whole);
        else if (json)
            Console.WriteLine(whole);
        unfinished?.Finish();
        int written = left.Count - failed;
        await Console.Error.WriteLineAsync($"{written} reports, {failed} studies failed, {PerMinute(written)} studies/minute");
        return failed == 0 ? 0 : 1;

        string Run()
        {
            string model = Convert.ToHexString(SHA256.HashData(File.ReadAllBytes(Path.Combine(bundle, Bundle.ManifestFile)))); // it holds the hashes of all other files
            // The folder as given, which the reports name, and where that is.
            return $"{folder} {Path.GetFullPath(folder)} {model} {drawn} {window} {options.Precision} {(json ? "json" : "text")}";
        }
    }
}
