using System.Diagnostics;
using Pcrl.Train.Data;
using Pcrl.Train.Models;
using Pcrl.Train.Text;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Fitting;

/// <summary>The frozen trunk's features of many studies in half precision: computed once, read in every epoch.</summary>
internal sealed class FeatureCache : IDisposable
{
    private readonly Tensor _pooled, _grid; // [studies, 24, C] and [studies, 24, C, g, g]

    private FeatureCache(Tensor pooled, Tensor grid) => (_pooled, _grid) = (pooled, grid);

    /// <summary>Studies held.</summary>
    public int Count => (int)_pooled.shape[0];

    public static FeatureCache Compute(
        PcrlModel model, IReadOnlyList<TrainingStudy> studies, int slices, string stage, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var visual = model.Shape.Visual;
        var clock = Stopwatch.StartNew();
        using var nothing = no_grad();
        var pooled = empty([studies.Count, slices, visual.FeatureChannels], ScalarType.Float16);
        var grid = empty([studies.Count, slices, visual.FeatureChannels, visual.Grid, visual.Grid], ScalarType.Float16);
        model.eval();
        var all = Enumerable.Range(0, slices).ToArray();
        for (int i = 0; i < studies.Count; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            var features = model.Features(TrunkStage.Slices(studies, [.. all.Select(k => (i, k))], visual.ImageSize));
            pooled[i] = features.Pooled.to(ScalarType.Float16);
            grid[i] = features.Grid.to(ScalarType.Float16);
            progress.Report(new StageProgress(stage, i + 1, studies.Count, "studies", clock.Elapsed, null));
        }
        return new FeatureCache(pooled.DetachFromDisposeScope(), grid.DetachFromDisposeScope());
    }

    /// <summary>Features of a batch, slices of all studies in a row: [B·24, …].</summary>
    public SliceFeatures Take(long[] studies)
    {
        using var scope = NewDisposeScope();
        var rows = tensor(studies);
        return new SliceFeatures(
            _pooled.index_select(0, rows).to(float32).flatten(0, 1).MoveToOuterDisposeScope(),
            _grid.index_select(0, rows).to(float32).flatten(0, 1).MoveToOuterDisposeScope());
    }

    public void Dispose()
    {
        _pooled.Dispose();
        _grid.Dispose();
    }
}

/// <summary>Trains the local and global branch and the adapters on L_g; trunk and LLM are frozen (§4.1).</summary>
internal static class ReportStage
{
    public static double Run(
        PcrlModel model, Prompt prompt, Tokenizer tokenizer, FitConfig fit, IReadOnlyList<TrainingStudy> studies, FeatureCache features, int seed,
        IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var random = new Random(seed);
        int[][][] findings = [.. studies.Select(s => s.Findings.Select(text => LanguageStage.EncodeFindings(tokenizer, text)).ToArray())];
        var order = new int[studies.Count];
        int next = order.Length;
        int Draw()
        {
            if (next == order.Length)
            {
                for (int i = 0; i < order.Length; i++)
                    order[i] = i;
                random.Shuffle(order);
                next = 0;
            }
            return order[next++];
        }

        var trained = model.ReportParameters.Select(p => p.Value).ToArray();
        foreach (var parameter in model.parameters())
            parameter.requires_grad = false;
        foreach (var parameter in trained)
            parameter.requires_grad = true;
        model.SetReportTraining(true);
        double loss = FitLoop.Run("report", fit, trained, _ =>
        {
            int[] picks = [.. Enumerable.Range(0, fit.Batch).Select(_ => Draw())];
            var visual = model.VisualTokens(features.Take([.. picks.Select(p => (long)p)]), picks.Length);
            return prompt.Loss(model.Language, visual, [.. picks.Select(p => findings[p][random.Next(findings[p].Length)])]);
        }, progress, cancellation);
        model.SetReportTraining(false);
        return loss;
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
}
