using System.Diagnostics;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Models;
using static TorchSharp.torch;

namespace Pcrl.Train.Fitting;

/// <summary>Writes the greedy reports of studies whose features are there.</summary>
internal static class ReportWriter
{
    private const int Batch = 50;

    /// <summary>What the context leaves for the findings.</summary>
    public static int MaximumTokens(TrainedRun run) =>
        run.Config.ContextLength - run.Prompt.TokenCount - run.Config.Visual.TokenCount(run.Config.SliceCount);

    /// <summary>One report for every study of <paramref name="features"/>; the model is in evaluation mode afterwards.</summary>
    public static List<string> Write(TrainedRun run, FeatureCache features, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var clock = Stopwatch.StartNew();
        var reports = new List<string>();
        using var nothing = no_grad();
        run.Model.SetReportTraining(false);
        foreach (int[] studies in Enumerable.Range(0, features.Count).Chunk(Batch))
        {
            cancellation.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            var visual = run.Model.VisualTokens(features.Take(studies), studies.Length);
            var ids = GreedyDecoder.Decode(run.Model.Language, run.Prompt.Embed(run.Model.Language, visual), run.Tokenizer.Data.EosId, MaximumTokens(run));
            reports.AddRange(ids.Select(run.Tokenizer.Decode));
            progress.Report(new StageProgress("write", reports.Count, features.Count, "reports", clock.Elapsed, null));
        }
        return reports;
    }
}
