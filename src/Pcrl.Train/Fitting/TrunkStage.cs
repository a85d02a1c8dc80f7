using Pcrl.Train.Data;
using Pcrl.Train.Models;
using Pcrl.Train.Torch;

namespace Pcrl.Train.Fitting;

/// <summary>
/// Teaches the trunk what a slice shows: the stand-in for the authors' fine-tuning on CQ500. Afterwards the heads are thrown away and the trunk is
/// frozen.
/// </summary>
internal static class TrunkStage
{
    /// <summary>Trains; returns the loss at the end.</summary>
    /// <param name="model">Its trunk is trained.</param>
    /// <param name="fit">Settings.</param>
    /// <param name="phantoms">Fully labelled studies.</param>
    /// <param name="scans">Real scans of which only the kinds of bleeding are known; may be empty.</param>
    /// <param name="workers">Who computes.</param>
    /// <param name="seed">Seed of the choices.</param>
    /// <param name="progress">Told after every step.</param>
    /// <param name="cancellation">Looked at before every step.</param>
    public static double Run(
        PcrlModel model, TrunkFitConfig fit, IReadOnlyList<TrainingStudy> phantoms, IReadOnlyList<TrainingStudy> scans, Workers workers, int seed,
        IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        TrainingStudy[] studies = [.. phantoms, .. scans];
        var ill = phantoms.SelectMany((study, s) => Enumerable.Range(0, SliceCount(study)).Where(k => HasLesion(study, k)).Select(k => (s, k))).ToArray();
        (int, int) Pick(int i, Random random)
        {
            // Half of the slices show a lesion: at their natural rate most steps would teach the trunk what health looks like.
            if (i % 2 == 0 && ill.Length > 0)
                return ill[random.Next(ill.Length)];
            int study = i % 8 == 1 && scans.Count > 0 ? phantoms.Count + random.Next(scans.Count) : random.Next(phantoms.Count);
            return (study, random.Next(SliceCount(studies[study])));
        }

        model.train();
        var first = new TrunkLearner(model);
        TrunkLearner[] learners = [first, .. Enumerable.Range(1, workers.Count - 1).Select(_ => first.Replicate())];
        Random[] randoms = [.. learners.Select((_, i) => new Random(seed + i))];
        try
        {
            return FitLoop.Run("trunk", fit, workers, [.. learners.Select(l => l.Parameters)], worker =>
            {
                var random = randoms[worker];
                var picks = Enumerable.Range(0, FitLoop.Share(fit, workers)).Select(i => Pick(i, random)).ToArray();
                return learners[worker].Loss(fit, studies, picks, random);
            }, progress, cancellation);
        }
        finally
        {
            foreach (var learner in learners)
                learner.Dispose();
        }
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
