using System.Diagnostics;
using Pcrl.Train.Data;
using Pcrl.Train.Losses;
using Pcrl.Train.Models;
using Pcrl.Train.Text;
using Pcrl.Train.Torch;
using static TorchSharp.torch;

namespace Pcrl.Train.Fitting;

/// <summary>Trains the local and global branch and the adapters on L_g; trunk and LLM are frozen (§4.1).</summary>
internal static class ReportStage
{
    /// <summary>Trains; returns the loss at the end.</summary>
    public static double Run(
        PcrlModel model, Prompt prompt, Tokenizer tokenizer, FitConfig fit, IReadOnlyList<TrainingStudy> studies, FeatureCache features, Workers workers, int seed,
        IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        int[][][] findings = [.. studies.Select(s => s.Findings.Select(text => LanguageStage.EncodeFindings(tokenizer, text)).ToArray())];
        PcrlModel[] models = [model, .. Enumerable.Range(1, workers.Count - 1).Select(_ => model.Replicate())];
        try
        {
            var trained = models.Select(m => m.Train(LossConfig.ReportOnly).Select(p => p.Value).ToArray()).ToArray();
            Random[] randoms = [.. models.Select((_, i) => new Random(seed + i))];
            Epochs[] epochs = [.. models.Select((_, i) => new Epochs(studies.Count, i, workers.Count, randoms[i]))];
            return FitLoop.Run("report", fit, workers, trained, worker =>
            {
                int[] picks = [.. Enumerable.Range(0, FitLoop.Share(fit, workers)).Select(_ => epochs[worker].Next())];
                var visual = models[worker].VisualTokens(features.Take([.. picks.Select(p => (long)p)]), picks.Length);
                return prompt.Loss(models[worker].Language, visual, [.. picks.Select(p => findings[p][randoms[worker].Next(findings[p].Length)])]);
            }, progress, cancellation);
        }
        finally
        {
            foreach (var replica in models.Skip(1))
                replica.Dispose();
            model.SetReportTraining(false);
        }
    }

    /// <summary>Greedy reports of studies.</summary>
    public static List<string> Write(
        PcrlModel model, Prompt prompt, Tokenizer tokenizer, FeatureCache features, int maximum, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        const int batch = 50;
        var clock = Stopwatch.StartNew();
        var reports = new List<string>();
        using var nothing = no_grad();
        model.SetReportTraining(false);
        foreach (long[] studies in Enumerable.Range(0, features.Count).Select(i => (long)i).Chunk(batch))
        {
            cancellation.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            var visual = model.VisualTokens(features.Take(studies), studies.Length);
            var ids = GreedyDecoder.Decode(model.Language, prompt.Embed(model.Language, visual), tokenizer.Data.EosId, maximum);
            reports.AddRange(ids.Select(tokenizer.Decode));
            progress.Report(new StageProgress("write", reports.Count, features.Count, "reports", clock.Elapsed, null));
        }
        return reports;
    }

    /// <summary>Every study of a worker's share once in random order, then again.</summary>
    private sealed class Epochs(int count, int first, int step, Random random)
    {
        private readonly int[] _order = [.. Enumerable.Range(0, count).Where(i => i % step == first % Math.Min(step, count))];
        private int _next;

        public int Next()
        {
            if (_next == 0)
                random.Shuffle(_order);
            int study = _order[_next];
            _next = (_next + 1) % _order.Length;
            return study;
        }
    }
}
