using System.Diagnostics;
using Pcrl.Train.Data;
using Pcrl.Train.Models;
using Pcrl.Train.Torch;
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

    /// <summary>Runs the trunk over all slices of all studies.</summary>
    public static FeatureCache Compute(
        PcrlModel model, IReadOnlyList<TrainingStudy> studies, int slices, Workers workers, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var visual = model.Shape.Visual;
        var clock = Stopwatch.StartNew();
        var pooled = empty([studies.Count, slices, visual.FeatureChannels], ScalarType.Float16);
        var grid = empty([studies.Count, slices, visual.FeatureChannels, visual.Grid, visual.Grid], ScalarType.Float16);
        model.eval();
        for (int start = 0; start < studies.Count; start += workers.Count)
        {
            cancellation.ThrowIfCancellationRequested();
            int end = Math.Min(studies.Count, start + workers.Count);
            workers.Run(worker =>
            {
                int study = start + worker;
                if (study >= end)
                    return;
                using var nothing = no_grad();
                using var scope = NewDisposeScope();
                var features = model.Features(TrunkLearner.Slices(studies, [.. Enumerable.Range(0, slices).Select(k => (study, k))], visual.ImageSize));
                pooled[study] = features.Pooled.to(ScalarType.Float16);
                grid[study] = features.Grid.to(ScalarType.Float16);
            });
            progress.Report(new StageProgress("features", end, studies.Count, "studies", clock.Elapsed, null));
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
