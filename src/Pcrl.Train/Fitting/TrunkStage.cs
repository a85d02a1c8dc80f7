using Pcrl.Train.Data;
using Pcrl.Train.Models;
using Pcrl.Train.Torch;

namespace Pcrl.Train.Fitting;

/// <summary>
/// Teaches the trunk what a slice shows: the stand-in for the authors' fine-tuning on CQ500. Afterwards it is frozen.
/// </summary>
internal static class TrunkStage
{
    /// <summary>Trains; returns the loss at the end.</summary>
    /// <param name="stage">Name for the progress.</param>
    /// <param name="model">Its trunk is trained.</param>
    /// <param name="heads">They teach it, and are trained with it.</param>
    /// <param name="fit">Settings.</param>
    /// <param name="sources">Every source of studies gives the same number of slices; half of those show a lesion.</param>
    /// <param name="workers">Who computes.</param>
    /// <param name="seed">Seed of the choices.</param>
    /// <param name="progress">Told after every step.</param>
    /// <param name="cancellation">Looked at before every step.</param>
    public static double Run(
        string stage, PcrlModel model, TrunkHeads heads, TrunkFitConfig fit, IReadOnlyList<IReadOnlyList<TrainingStudy>> sources, Workers workers, int seed,
        IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        TrainingStudy[] studies = [.. sources.SelectMany(s => s)];
        var pools = new List<((int Study, int Slice)[] All, (int Study, int Slice)[] Ill)>();
        foreach (var source in sources)
        {
            int before = sources.Take(pools.Count).Sum(s => s.Count);
            var all = source.SelectMany((study, s) => Enumerable.Range(0, SliceCount(study)).Select(k => (before + s, k))).ToArray();
            pools.Add((all, [.. all.Where(p => HasLesion(studies[p.Item1], p.k))]));
        }
        (int, int) Pick(int i, Random random)
        {
            var (all, ill) = pools[i % pools.Count];
            // Half of the slices show a lesion: at their natural rate most steps would teach the trunk what health looks like.
            var pool = i / pools.Count % 2 == 0 && ill.Length > 0 ? ill : all;
            return pool[random.Next(pool.Length)];
        }

        model.train();
        var first = new TrunkLearner(model, heads);
        TrunkLearner[] learners = [first, .. Enumerable.Range(1, workers.Count - 1).Select(_ => first.Replicate())];
        Random[] randoms = [.. learners.Select((_, i) => new Random(seed + i))];
        return FitLoop.Run(stage, fit, workers, [.. learners.Select(l => l.Parameters)], worker =>
        {
            var random = randoms[worker];
            var picks = Enumerable.Range(0, FitLoop.Share(fit, workers)).Select(i => Pick(i, random)).ToArray();
            return learners[worker].Loss(fit, studies, picks, random);
        }, progress, cancellation);
    }

    private static int SliceCount(TrainingStudy study) => study.Labels.Length / SliceLabels.Count;

    private static bool HasLesion(TrainingStudy study, int slice)
    {
        var row = study.Labels.AsSpan(slice * SliceLabels.Count, SliceLabels.Count);
        for (int i = 0; i < row.Length; i++)
        {
            if (row[i] == 1 && SliceLabels.Names[i].StartsWith("kind:", StringComparison.Ordinal))
                return true;
        }
        return false;
    }
}
