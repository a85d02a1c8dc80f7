using System.Text.Json.Nodes;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Models;
using Pcrl.Train.Torch;

namespace Pcrl.Train.Fitting;

/// <summary>
/// A whole run: trunk and LLM, brought along or taught on phantoms, then frozen (<see cref="BaseModel"/>) → branches, heads and adapters fitted to reports and clues
/// (<see cref="JointFit"/>) → measured on studies it has not seen. Each stage's result is kept, so an interrupted run goes on where it was.
/// </summary>
public sealed class MiniTraining
{
    /// <summary>Studies whose findings go into <c>phrases.txt</c>: the drafter learns little from more.</summary>
    public const int PhraseStudies = 500;

    private readonly RunConfig _config;
    private readonly RunFolder _folder;
    private readonly IProgress<StageProgress> _progress;
    private readonly CancellationToken _cancellation;

    private MiniTraining(RunConfig config, RunFolder folder, IProgress<StageProgress> progress, CancellationToken cancellation) =>
        (_config, _folder, _progress, _cancellation) = (config, folder, progress, cancellation);

    /// <summary>Trains into <paramref name="folder"/> or goes on with what lies there.</summary>
    /// <param name="config">The run.</param>
    /// <param name="folder">Where it goes.</param>
    /// <param name="ctIch">Folder of the CT-ICH scans, which then join the training with label-derived texts; null for phantoms alone.</param>
    /// <param name="resume">Whether a joint fit that was interrupted goes on from its checkpoint; else it begins anew.</param>
    /// <param name="provenance">Written into the metrics as it is: commit, command line.</param>
    /// <param name="progress">Told about every step.</param>
    /// <param name="cancellation">Stops between two steps; finished stages stay.</param>
    /// <returns>The model's and the baseline's score.</returns>
    /// <exception cref="Runtime.InputException">The folder cannot be written, or holds something damaged.</exception>
    public static PhantomScore Run(
        RunConfig config, RunFolder folder, string? ctIch, bool resume, JsonObject provenance, IProgress<StageProgress> progress,
        CancellationToken cancellation) => new MiniTraining(config, folder, progress, cancellation).Run(ctIch, resume, provenance);

    /// <summary>
    /// Asks how a run's reports tell blood on scans it has not seen: once per fold, phantom-trained trunk and LLM go on with the scans of the other folds
    /// as in <see cref="Run(RunConfig, RunFolder, string?, bool, JsonObject, IProgress{StageProgress}, CancellationToken)"/>, and report on those of this one.
    /// </summary>
    /// <param name="config">The run.</param>
    /// <param name="folder">Keeps what comes before the scans; a run of the same configuration shares it.</param>
    /// <param name="ctIch">Folder of the CT-ICH scans.</param>
    /// <param name="folds">Parts by person, each with its share of bleeding; at least 2.</param>
    /// <param name="lines">Told the score of every fold.</param>
    /// <param name="progress">Told about every step.</param>
    /// <param name="cancellation">Stops between two steps.</param>
    /// <returns>Every scan once, from the fold in which it was held out.</returns>
    /// <exception cref="Runtime.InputException">The scans cannot be read or the folder cannot be written.</exception>
    public static IReadOnlyList<HaemorrhageCase> CrossValidate(
        RunConfig config, RunFolder folder, string ctIch, int folds, IProgress<string> lines, IProgress<StageProgress> progress,
        CancellationToken cancellation) => new MiniTraining(config, folder, progress, cancellation).CrossValidate(ctIch, folds, lines);

    private PhantomScore Run(string? ctIch, bool resume, JsonObject provenance)
    {
        _config.CheckFit();
        _folder.Create();
        using var workers = new Workers(_config.Threads);
        var stages = new StageStore(_folder, () => workers.Seed(_config.Seed));
        List<RealScan> scans = ctIch is null ? [] : RealStudies.Load(ctIch, _config.Visual.ImageSize, _cancellation);
        using var start = BaseModel.Make(_config, stages, workers, _progress, _cancellation);
        if (scans.Count > 0)
        {
            stages.Run("scans", (_config.ScanFit, scans.Select(s => s.Patient).ToArray()), "scans.safetensors", path =>
            {
                double loss = LearnScans(start.Run.Model, start.Phantoms, scans, workers);
                Weights.Save(path, Weights.Of(start.Run.Model.Trunk));
                return new JsonObject { ["loss"] = loss, ["scans"] = scans.Count };
            }, path => BaseModel.Load(path, start.Run.Model.Trunk));
        }
        var split = StudySplit.Load(_config, start.Phantoms, _progress, _cancellation);
        using var run = start.Start(_config, workers);

        stages.Run("fit", (_config.JointFit, _config.Lora, _config.Loss, _config.Bert, split.Hash), "fit.safetensors", path =>
        {
            workers.Seed(_config.JointFit.Seed);
            using var training = Features(run, [.. split.Training, .. Splice(scans)], workers);
            using var validation = split.Validation.Count == 0 ? null : Features(run, split.Validation, workers);
            using var fit = new JointFit(run, workers, training, validation);
            fit.Run(new FitCheckpoint(_folder.CheckpointPath, stages.Key), resume, _folder.SaveHistory, _progress, _cancellation);
            Weights.Save(path, RunFolder.Fitted(run.Model));
            File.Delete(_folder.CheckpointPath);
            return new JsonObject { ["steps"] = fit.History.Steps.Count, ["loss"] = fit.History.Steps.TakeLast(Math.Max(1, fit.History.Steps.Count / 10)).Average(s => s.Loss) };
        }, path =>
        {
            using var file = SafetensorsFile.Open(path);
            Weights.Load(file, RunFolder.Fitted(run.Model));
        });

        run.Model.eval();
        _folder.Save(_config, run.Tokenizer.Data, run.Model);
        _folder.SavePhrases(split.Training.Take(PhraseStudies).Concat(Splice(scans)).SelectMany(study => study.Findings));
        using var heldOut = Features(run, split.HeldOut, workers);
        var reports = ReportWriter.Write(run, heldOut.Features, _progress, _cancellation);
        var score = PhantomScore.Of([.. split.HeldOut.Select(s => s.Findings[0])], reports, _cancellation);
        _folder.SaveMetrics(new JsonObject
        {
            ["name"] = _config.Name,
            ["data"] = scans.Count == 0 ? split.Description : $"{split.Description}; {scans.Count} scans of CT-ICH (CC BY 4.0) with label-derived text",
            ["data_hash"] = split.Hash,
            ["leakage"] = split.Leakage.ToJson(),
            ["provenance"] = provenance,
            ["stages"] = stages.Records.DeepClone(),
            ["held_out"] = score.ToJson(),
        });
        return score;
    }

    private FeatureSet Features(TrainedRun run, IReadOnlyList<TrainingStudy> studies, Workers workers) =>
        new(studies, FeatureCache.Compute(run.Model, studies, _config.SliceCount, workers, _progress, _cancellation));

    /// <summary>The trunk goes on with real scans beside the phantoms.</summary>
    private double LearnScans(PcrlModel model, IReadOnlyList<TrainingStudy> phantoms, List<RealScan> scans, Workers workers) => TrunkStage.Run(
        "scans", model, _config.ScanFit, [phantoms, [.. scans.Select(s => s.Study)]], workers, _config.Seed, _progress, _cancellation);

    private List<TrainingStudy> Splice(List<RealScan> scans) => scans.Count == 0
        ? [] : RealStudies.Splice(scans, _config.ScanFit.Splices, _config.Visual.ImageSize, _config.ScanFit.Augmentation, _config.Seed);

    private IReadOnlyList<HaemorrhageCase> CrossValidate(string ctIch, int folds, IProgress<string> lines)
    {
        _folder.Create();
        using var workers = new Workers(_config.Threads);
        var scans = RealStudies.Load(ctIch, _config.Visual.ImageSize, _cancellation);
        using var start = BaseModel.Make(_config, new StageStore(_folder, () => workers.Seed(_config.Seed)), workers, _progress, _cancellation);
        int[] foldOf = Folds([.. scans.Select(s => s.Bleeding)], folds, _config.Seed);
        var cases = new List<HaemorrhageCase>();
        for (int fold = 0; fold < folds; fold++)
        {
            List<RealScan> known = [.. scans.Where((_, i) => foldOf[i] != fold)], heldOut = [.. scans.Where((_, i) => foldOf[i] == fold)];
            using var run = start.Start(_config, workers);
            LearnScans(run.Model, start.Phantoms, known, workers);
            // As many phantoms as splices: enough to keep the language of the phantoms, and each fold stays short.
            using (var training = Features(run, [.. start.Phantoms.Take(_config.ScanFit.Splices), .. Splice(known)], workers))
            using (var fit = new JointFit(run, workers, training, null))
                fit.Run(null, false, null, _progress, _cancellation);
            using var features = Features(run, [.. heldOut.Select(s => s.Study)], workers);
            var measured = HaemorrhageCase.Measure(run, heldOut, fold, features.Features, _progress, _cancellation);
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
