using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Torch;

namespace Pcrl.Train.Fitting;

/// <summary>
/// Asks how a run's reports tell blood on scans it has not seen: once per fold, the base model goes on with the scans of the other folds as
/// <see cref="TrainingPipeline"/> does with all, and reports on those of this one.
/// </summary>
public static class CrossValidation
{
    /// <summary>Trains and measures every fold.</summary>
    /// <param name="config">The run.</param>
    /// <param name="folder">Keeps what comes before the scans; a run of the same configuration with scans shares it.</param>
    /// <param name="ctIch">Folder of the CT-ICH scans.</param>
    /// <param name="folds">Parts by person, each with its share of bleeding; at least 2.</param>
    /// <param name="lines">Told the score of every fold.</param>
    /// <param name="progress">Told about every step.</param>
    /// <param name="cancellation">Stops between two steps.</param>
    /// <returns>Every scan once, from the fold in which it was held out.</returns>
    /// <exception cref="Runtime.InputException">The scans cannot be read or the folder cannot be written.</exception>
    public static IReadOnlyList<HaemorrhageCase> Run(
        RunConfig config, RunFolder folder, string ctIch, int folds, IProgress<string> lines, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        config.CheckFit(several: true, scans: true);
        var scans = RealStudies.Load(ctIch, config.Visual.ImageSize, cancellation);
        if (folds > scans.Count)
            throw new Runtime.InputException(ctIch, $"has {scans.Count} scans, too few for {folds} parts");
        folder.Create();
        using var workers = new Workers(config.Threads);
        using var start = BaseModel.Make(config, new StageStore(folder, () => workers.Seed(config.Seed)), scans: true, workers, progress, cancellation);
        int[] foldOf = Folds([.. scans.Select(s => s.Bleeding)], folds, config.Data.SplitSeed);
        var cases = new List<HaemorrhageCase>();
        for (int fold = 0; fold < folds; fold++)
        {
            List<RealScan> known = [.. scans.Where((_, i) => foldOf[i] != fold)], heldOut = [.. scans.Where((_, i) => foldOf[i] == fold)];
            FeatureSet Features(TrainedRun run, IReadOnlyList<TrainingStudy> studies) =>
                new(studies, FeatureCache.Compute(null, run.Model, studies, config.SliceCount, workers, progress, cancellation));

            workers.Seed(config.Seed);
            using var branch = start with { Run = start.Run with { Model = start.Run.Model.Replicate() }, Heads = start.Heads.Replicate() };
            var painted = PaintedBlood.Make(known, config, cancellation);
            branch.LearnScans(known, painted, workers, progress, cancellation);
            List<TrainingStudy> studies = [.. start.Phantoms, .. RealStudies.Views(known, painted, config, progress, cancellation)];
            using var run = branch.Start(config, workers);
            using var training = Features(run, studies);
            using (var fit = new JointFit(run, workers, training, null))
                fit.Run(null, resume: false, null, progress, cancellation);
            using var asked = Features(run, [.. heldOut.Select(s => s.Study)]);
            var measured = HaemorrhageCase.Measure(run, branch.Heads, heldOut, fold, asked.Features, progress, cancellation);
            lines.Report($"fold {fold + 1}: {HaemorrhageScore.Of(measured)}");
            cases.AddRange(measured);
        }
        return cases;
    }

    /// <summary>The fold of each scan: every fold has its share of bleeding ones and of others.</summary>
    internal static int[] Folds(IReadOnlyList<bool> bleeding, int folds, int seed)
    {
        int[] order = [.. Enumerable.Range(0, bleeding.Count)], foldOf = new int[bleeding.Count];
        new Random(seed).Shuffle(order);
        int next = 0;
        foreach (int scan in order.OrderBy(i => bleeding[i]))
            foldOf[scan] = next++ % folds;
        return foldOf;
    }
}
