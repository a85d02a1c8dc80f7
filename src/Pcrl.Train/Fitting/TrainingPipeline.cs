using System.Text.Json.Nodes;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Torch;

namespace Pcrl.Train.Fitting;

/// <summary>
/// A whole run: trunk and LLM, brought along or taught on phantoms, then frozen (<see cref="BaseModel"/>) → branches, heads and adapters fitted to reports and clues
/// (<see cref="JointFit"/>) → measured on studies it has not seen. Each stage's result is kept, so an interrupted run goes on where it was.
/// </summary>
public sealed class TrainingPipeline
{
    /// <summary>Most studies whose findings go into <c>phrases.txt</c>, taken evenly: the drafter learns little from more.</summary>
    private const int PhraseStudies = 500;

    private readonly RunConfig _config;
    private readonly RunFolder _folder;
    private readonly IProgress<StageProgress> _progress;
    private readonly CancellationToken _cancellation;

    private TrainingPipeline(RunConfig config, RunFolder folder, IProgress<StageProgress> progress, CancellationToken cancellation) =>
        (_config, _folder, _progress, _cancellation) = (config, folder, progress, cancellation);

    /// <summary>Trains into <paramref name="folder"/> or goes on with what lies there.</summary>
    /// <param name="config">The run.</param>
    /// <param name="folder">Where it goes.</param>
    /// <param name="ctIch">Folder of the CT-ICH scans, which then join the training with label-derived texts; null for none.</param>
    /// <param name="resume">Whether a joint fit that was interrupted goes on from its checkpoint; else it begins anew.</param>
    /// <param name="provenance">Written into the metrics as it is: program version, configuration.</param>
    /// <param name="progress">Told about every step.</param>
    /// <param name="cancellation">Stops between two steps; finished stages stay.</param>
    /// <returns>The model's and the baseline's score.</returns>
    /// <exception cref="Runtime.InputException">The folder cannot be written, or holds something damaged.</exception>
    public static HeldOutScore Run(
        RunConfig config, RunFolder folder, string? ctIch, bool resume, JsonObject provenance, IProgress<StageProgress> progress,
        CancellationToken cancellation) => new TrainingPipeline(config, folder, progress, cancellation).Run(ctIch, resume, provenance);

    private HeldOutScore Run(string? ctIch, bool resume, JsonObject provenance)
    {
        _config.CheckFit(scans: ctIch is not null);
        // What is wrong with data that are brought along is said before anything is taught or written.
        List<RealScan> scans = ctIch is null ? [] : RealStudies.Load(ctIch, _config.Visual.ImageSize, _cancellation);
        var data = StudySplit.Brought(_config, _progress, _cancellation);
        _folder.Create();
        using var workers = new Workers(_config.Threads);
        var stages = new StageStore(_folder, () => workers.Seed(_config.Seed));
        using var start = BaseModel.Make(_config, stages, scans.Count > 0, workers, _progress, _cancellation);
        var split = data ?? StudySplit.OfPhantoms(_config, start.Phantoms, _progress, _cancellation);
        if (scans.Count > 0)
        {
            var painted = PaintedBlood.Make(scans, _config, _cancellation);
            stages.Run("scans", (_config.ScanFit, StudySplit.Digest([.. scans.Select(s => s.Study)])), "scans.safetensors", path =>
            {
                double loss = start.LearnScans(scans, painted, workers, _progress, _cancellation);
                Weights.Save(path, Weights.Of(start.Run.Model.Trunk));
                return new JsonObject { ["loss"] = loss, ["scans"] = scans.Count };
            }, path => BaseModel.Load(path, start.Run.Model.Trunk));
            workers.Seed(_config.Seed);
            split = split with
            {
                Training = [.. split.Training, .. RealStudies.Views(scans, painted, _config, _progress, _cancellation)],
                Description = $"{split.Description}; {scans.Count} scans of CT-ICH (CC BY 4.0) with label-derived text",
            };
        }
        using var run = start.Start(_config, workers);

        object settings = (_config.JointFit, _config.Lora, _config.Loss, _config.Bert, split.Hash);
        if (_config.Pretrained.Stamp() is { } brought)
            settings = (settings, brought, _config.Visual, _config.LanguageBase, _config.Prompt, _config.Threads); // no stage before this one depends on them
        stages.Run("fit", settings, "fit.safetensors", path =>
        {
            workers.Seed(_config.JointFit.Seed);
            using var training = Features("training", run, split.Training, workers);
            using var validation = split.Validation.Count == 0 ? null : Features("validation", run, split.Validation, workers);
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
        _folder.SavePhrases(split.Training.Chunk((split.Training.Count + PhraseStudies - 1) / PhraseStudies).SelectMany(studies => studies[0].Findings));
        using var heldOut = Features("held-out", run, split.HeldOut, workers);
        var reports = ReportWriter.Write(run, heldOut.Features, _progress, _cancellation);
        string[] references = [.. split.HeldOut.Select(s => s.Findings[0])], train = [.. split.Training.Select(s => s.Findings[0])];
        var score = HeldOutScore.Of(references, reports, _cancellation) with
        {
            Copying = ReportScore.Copying(references, train, ReportScore.Nearest(reports, train), _cancellation),
            Leakage = split.Leakage,
        };
        _folder.SaveMetrics(new JsonObject
        {
            ["name"] = _config.Name,
            ["data"] = split.Description,
            ["data_hash"] = split.Hash,
            ["leakage"] = split.Leakage.ToJson(),
            ["provenance"] = provenance,
            ["stages"] = stages.Records.DeepClone(),
            ["held_out"] = score.ToJson(),
        });
        return score;
    }

    private FeatureSet Features(string part, TrainedRun run, IReadOnlyList<TrainingStudy> studies, Workers workers) =>
        new(studies, FeatureCache.Compute(_folder.Stage(part + ".features"), run.Model, studies, _config.SliceCount, workers, _progress, _cancellation));
}
