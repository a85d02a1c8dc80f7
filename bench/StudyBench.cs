using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using System.Text.Json;
using Pcrl.Kernels;
using Pcrl.Runtime;
using Pcrl.Runtime.Language;
using Pcrl.Runtime.Reports;
using Pcrl.Runtime.Studies;

namespace Pcrl.Bench;

/// <summary><c>study</c>: from files on disk to the last character, cold and warm, one study and a folder of them; and the soak.</summary>
internal static class StudyBench
{
    private sealed record Stage(string Name, double P50, double P95, double P99, double Share);

    private sealed record Soak(int Reports, IReadOnlyDictionary<string, int> Stops, IReadOnlyList<long> ResidentMib);

    public static Command Command()
    {
        var studies = new Argument<string>("STUDIES") { Description = "A study or a folder of studies", DefaultValueFactory = _ => Path.Combine(Bundles.Root, "samples") };
        var bundle = Bundles.Option("mini");
        var rounds = Options.Number("--rounds", "warm reports of each study", 10, least: 1, most: 100_000);
        var cold = Options.Number("--cold", "fresh processes that write one report each", 5, least: 0, most: 100_000);
        var parallel = Options.Number("--parallel", "reports at once in the folder's measurement", 16, least: 1, most: BatchDecoder.MostSequences);
        var soak = Options.Number("--soak", "reports in a row at the end, whose memory is watched; 0 to leave them out", 0, least: 0, most: 10_000_000);
        var once = new Option<bool>("--once") { Description = "write one report and end: what --cold starts", Hidden = true };
        var device = new Option<string>("--device") { Description = "of both halves: auto, cpu, cuda, opencl (vision) or vulkan (language model)", DefaultValueFactory = _ => "auto" };
        device.AcceptOnlyFromAmong([.. ReporterOptions.DeviceNames]);
        var precision = new Option<Precision>("--precision") { Description = "of the vision kernels on a GPU" };
        precision.AcceptOnlyFromAmong("fp32", "bf16");
        var (threads, seed, json) = (Options.Threads(), Options.Seed(), Options.Json());
        var command = new Command("study", "Times whole reports: files on disk to the last character.") { studies, bundle, rounds, cold, parallel, soak, once, device, precision, threads, seed, json };
        command.SetAction(async (parsed, cancellation) =>
        {
            var paths = StudyFolder.Look(parsed.GetValue(studies)!).Studies;
            var options = new ReporterOptions { Precision = parsed.GetValue(precision), Threads = parsed.GetValue(threads), Parallel = parsed.GetValue(parallel) }.On(parsed.GetValue(device)!);
            var run = new Run(paths, parsed.GetValue(bundle)!, parsed.GetValue(device)!, options, new SamplingOptions { Seed = (ulong)parsed.GetValue(seed) });
            if (parsed.GetValue(once))
                await run.OnceAsync(cancellation);
            else
                await run.MeasureAsync(parsed.GetValue(rounds), parsed.GetValue(cold), parsed.GetValue(soak), parsed.GetValue(seed), parsed.GetValue(json), cancellation);
            return 0;
        });
        return command;
    }

    private sealed class Run(IReadOnlyList<string> paths, string bundle, string deviceName, ReporterOptions options, SamplingOptions sampling)
    {
        public async Task OnceAsync(CancellationToken cancellation)
        {
            var reading = Task.Run(() => Reporter.Read(paths[0], cancellation), cancellation);
            using var reporter = Reporter.Open(bundle, options with { Parallel = 1 }, cancellation);
            await WriteAsync(reporter, reporter.Prepare(await reading, WindowChoice.Brain), cancellation);
        }

        public async Task MeasureAsync(int rounds, int cold, int soak, int seed, bool json, CancellationToken cancellation)
        {
            double[] starts = [.. Enumerable.Range(0, cold).Select(_ => Cold())];
            ProcessMemory.ForgetPeak();
            using var reporter = Reporter.Open(bundle, options, cancellation);
            await WriteAsync(reporter, paths[0], cancellation); // warms up
            var reports = new List<(Report Report, double Total)>();
            var begun = Environment.CpuUsage.TotalTime; // of processors; what threads wait awake is in it
            for (int round = 0; round < rounds; round++)
            {
                foreach (string path in paths)
                {
                    var clock = Stopwatch.StartNew();
                    var report = await WriteAsync(reporter, path, cancellation);
                    reports.Add((report, clock.Elapsed.TotalMilliseconds));
                }
            }
            // The same work at once and one after another.
            double apart = reports.Sum(r => r.Total) / 60_000, perMinute = reports.Count / apart;
            var between = Environment.CpuUsage.TotalTime;
            var together = Stopwatch.StartNew();
            int written = 0;
            await foreach (var outcome in ReportBatch.WriteAsync(reporter, Enumerable.Repeat(paths, rounds).SelectMany(p => p), WindowChoice.Brain, sampling, cancellation))
                written += outcome.Report is null ? 0 : 1;
            double perMinuteTogether = written / together.Elapsed.TotalMinutes;
            double processorMs = (between - begun).TotalMilliseconds / reports.Count, processorMsTogether = (Environment.CpuUsage.TotalTime - between).TotalMilliseconds / written;
            // What the threads could write, at this processor time, if none of them ever slept.
            double mostPerMinute = reporter.Threads * 60_000 / processorMsTogether;
            long peak = ProcessMemory.Peak();
            var soaked = soak > 0 ? await SoakAsync(reporter, soak, cancellation) : null;

            double total = reports.Sum(r => r.Total);
            Stage Of(string name, Func<(Report Report, double Total), double> of) =>
                new(name, reports.Select(of).Quantile(0.5), reports.Select(of).Quantile(0.95), reports.Select(of).Quantile(0.99), reports.Sum(of) / total);
            Stage[] stages =
            [
                Of("read and prepare", r => r.Report.TimingsMs.Read), Of("encode", r => r.Report.TimingsMs.Encode), Of("prefill", r => r.Report.TimingsMs.Prefill),
                Of("decode", r => r.Report.TimingsMs.Decode), Of("whole", r => r.Total),
            ];
            using var device = Device.Open(DeviceKind.Cpu, options.Threads);
            var conditions = Conditions.Of(device, seed) with { Device = reporter.Device };
            double? fresh = cold > 0 ? 60_000 / starts.Median() : null;
            if (json)
            {
                Console.WriteLine(JsonSerializer.Serialize(new
                {
                    conditions, model = reporter.Manifest.Model, studies = paths.Count, reports = reports.Count, stages, coldMs = starts,
                    studiesPerMinute = perMinute, parallel = options.Parallel, studiesPerMinuteParallel = perMinuteTogether,
                    parallelVsOneByOne = perMinuteTogether / perMinute, processorMs, processorMsParallel = processorMsTogether,
                    parallelVsFreshProcesses = fresh is { } each ? perMinuteTogether / each : (double?)null, peakMib = peak >> 20, soak = soaked,
                }, Json.Readable));
                return;
            }
            string Figure(double value, string format) => value.ToString(format, CultureInfo.InvariantCulture);
            Console.WriteLine(conditions.Markdown);
            Console.WriteLine($"Model {reporter.Manifest.Model}, {paths.Count} studies, {reports.Count} warm reports.\n\n| stage | p50 ms | p95 ms | p99 ms | share |\n|---|---:|---:|---:|---:|");
            foreach (var stage in stages)
                Console.WriteLine($"| {stage.Name} | {Figure(stage.P50, "0.0")} | {Figure(stage.P95, "0.0")} | {Figure(stage.P99, "0.0")} | {Figure(100 * stage.Share, "0")} % |");
            if (starts.Length > 0)
                Console.WriteLine($"\nCold, process start to end: p50 {Figure(starts.Median(), "0")} ms of {starts.Length}  ");
            Console.WriteLine($"One after another: {Figure(perMinute, "0.0")} studies/minute; {options.Parallel} at once: {Figure(perMinuteTogether, "0.0")} ({Figure(perMinuteTogether / perMinute, "0.00")} times)  ");
            Console.WriteLine($"Processor time of a study: {Figure(processorMs, "0.0")} ms; {options.Parallel} at once: {Figure(processorMsTogether, "0.0")} ms, "
                + $"so that {reporter.Threads} threads that never sleep could write {Figure(mostPerMinute, "0")} studies/minute ({Figure(mostPerMinute / perMinute, "0.00")} times one after another)  ");
            if (fresh is { } processes)
                Console.WriteLine($"One after another in processes of their own: {Figure(processes, "0.0")} studies/minute; {options.Parallel} at once: {Figure(perMinuteTogether / processes, "0.00")} times that  ");
            Console.WriteLine($"Peak memory: {peak >> 20} MiB");
            if (soaked is not null)
                Console.WriteLine($"\nSoak: {soaked.Reports} reports; ended by {string.Join(", ", soaked.Stops.Select(s => $"{s.Key}: {s.Value}"))}; resident MiB after each tenth: {string.Join(" ", soaked.ResidentMib)}");
        }

        private async Task<Soak> SoakAsync(Reporter reporter, int count, CancellationToken cancellation)
        {
            var prepared = paths.Select(path => reporter.Prepare(Reporter.Read(path, cancellation), WindowChoice.Brain)).ToList();
            var (stops, memory) = (new Dictionary<string, int>(), new List<long>());
            for (int tenth = 0; tenth < 10; tenth++)
            {
                int first = tenth * count / 10, end = (tenth + 1) * count / 10;
                foreach (var part in Enumerable.Range(first, end - first).Chunk(options.Parallel))
                {
                    foreach (var report in await Task.WhenAll(part.Select(i => WriteAsync(reporter, prepared[i % prepared.Count], cancellation, (ulong)i))))
                        stops[report.Stop] = stops.GetValueOrDefault(report.Stop) + 1;
                }
                GC.Collect();
                memory.Add(Process.GetCurrentProcess().WorkingSet64 >> 20);
            }
            return new Soak(count, stops, memory);
        }

        private double Cold()
        {
            var start = new ProcessStartInfo(Environment.ProcessPath!) { RedirectStandardOutput = true, RedirectStandardError = true };
            if (Path.GetFileNameWithoutExtension(start.FileName) == "dotnet")
                start.ArgumentList.Add(typeof(StudyBench).Assembly.Location);
            foreach (string argument in (string[])["study", paths[0], "--once", "--bundle", bundle, "--device", deviceName, "--precision", $"{options.Precision}".ToLowerInvariant(), "--threads", $"{options.Threads}", "--seed", $"{sampling.Seed}"])
                start.ArgumentList.Add(argument);
            var clock = Stopwatch.StartNew();
            using var process = Process.Start(start)!;
            string errors = process.StandardError.ReadToEnd().Trim();
            process.WaitForExit();
            return process.ExitCode == 0 ? clock.Elapsed.TotalMilliseconds : throw new InputException("a fresh process", $"ended with {process.ExitCode} ({errors})");
        }

        private Task<Report> WriteAsync(Reporter reporter, string path, CancellationToken cancellation) =>
            WriteAsync(reporter, reporter.Prepare(Reporter.Read(path, cancellation), WindowChoice.Brain), cancellation);

        private async Task<Report> WriteAsync(Reporter reporter, PreparedStudy study, CancellationToken cancellation, ulong seed = 0)
        {
            Report? report = null;
            await foreach (var piece in reporter.WriteAsync(study, sampling with { Seed = sampling.Seed + seed }, cancellation))
                report = piece.Report;
            return report!;
        }
    }
}
