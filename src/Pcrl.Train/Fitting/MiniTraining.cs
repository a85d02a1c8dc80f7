using System.Text.Json.Nodes;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Models;
using Pcrl.Train.Text;
using Pcrl.Train.Torch;

namespace Pcrl.Train.Fitting;

/// <summary>
/// Makes a small model from nothing: phantoms → trunk taught slice labels, then frozen → tokenizer and LLM taught the texts, then frozen → branches
/// and adapters trained on L_g → measured on phantoms of other seeds. Each stage's result is kept, so an interrupted run goes on where it was.
/// </summary>
public sealed class MiniTraining
{
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
    /// <param name="provenance">Written into the metrics as it is: commit, command line.</param>
    /// <param name="progress">Told about every step.</param>
    /// <param name="cancellation">Stops between two steps; finished stages stay.</param>
    /// <returns>The model's and the baseline's score.</returns>
    /// <exception cref="Runtime.InputException">The folder cannot be written, or holds something damaged.</exception>
    public static PhantomScore Run(
        RunConfig config, RunFolder folder, string? ctIch, JsonObject provenance, IProgress<StageProgress> progress,
        CancellationToken cancellation) => new MiniTraining(config, folder, progress, cancellation).Run(ctIch, provenance);

    /// <summary>
    /// Asks how a run's reports tell blood on scans it has not seen: once per fold, phantom-trained trunk and LLM go on with the scans of the other folds
    /// as in <see cref="Run(RunConfig, RunFolder, string?, JsonObject, IProgress{StageProgress}, CancellationToken)"/>, and report on those of this one.
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

    private PhantomScore Run(string? ctIch, JsonObject provenance)
    {
        _folder.Create();
        using var workers = new Workers(_config.Threads);
        List<RealScan> scans = ctIch is null ? [] : RealStudies.Load(ctIch, _config.Visual.ImageSize, _cancellation);
        var stages = new StageStore(_folder, () => workers.Seed(_config.Seed));
        var (run, studies) = Begin(stages, workers);
        using var model = run.Model;

        if (scans.Count > 0)
        {
            stages.Run("scans", (_config.ScanFit, scans.Select(s => s.Patient).ToArray()), "scans.safetensors", path =>
            {
                double loss = LearnScans(model, studies, scans, workers);
                Weights.Save(path, Weights.Of(model.Trunk));
                return new JsonObject { ["loss"] = loss, ["scans"] = scans.Count };
            }, path => Reload(path, model.Trunk));
        }

        stages.Run("report", (_config.ReportFit, _config.Lora), "report.safetensors", path =>
        {
            double loss = FitReports(run, [.. studies, .. Splice(scans)], workers);
            Weights.Save(path, Weights.Of(model));
            return new JsonObject { ["loss"] = loss };
        }, path => Reload(path, model));

        _folder.Save(_config, run.Tokenizer.Data, model);
        var score = PhantomScore.Measure(run, _config.Phantoms.HeldOut, _config.Phantoms.HeldOutSeed, _config.Phantoms.Difficulty, _progress, _cancellation);
        _folder.SaveMetrics(new JsonObject
        {
            ["name"] = _config.Name,
            ["data"] = scans.Count == 0 ? "synthetic phantoms" : $"synthetic phantoms; {scans.Count} scans of CT-ICH (CC BY 4.0) with label-derived text",
            ["provenance"] = provenance,
            ["stages"] = stages.Records.DeepClone(),
            ["held_out"] = score.ToJson(),
        });
        return score;
    }

    /// <summary>What a run does before it sees a real scan: phantoms, trunk, tokenizer and LLM.</summary>
    private (TrainedRun Run, List<TrainingStudy> Phantoms) Begin(StageStore stages, Workers workers)
    {
        List<TrainingStudy> studies = [];
        stages.Run("studies", (_config.Phantoms, _config.Visual.ImageSize), "studies.bin", path =>
        {
            studies = Produce("studies", _config.Phantoms.TrainingSeed, _config.Phantoms.Training);
            StudyCache.Save(path, studies);
            return new JsonObject { ["studies"] = studies.Count };
        }, path => studies = StudyCache.Load(path));

        var tokenizer = new Tokenizer(BytePairTrainer.Train(Texts(studies), _config.Tokenizer));
        workers.Seed(_config.Seed);
        var model = new PcrlModel(_config.Shape(tokenizer.Data));
        var prompt = new Prompt(_config.Prompt, tokenizer);

        stages.Run("trunk", (_config.TrunkFit, _config.Visual, _config.Seed, _config.Threads), "trunk.safetensors", path =>
        {
            double loss = TrunkStage.Run("trunk", model, _config.TrunkFit, [studies], workers, _config.Seed, _progress, _cancellation);
            Weights.Save(path, Weights.Of(model.Trunk));
            return new JsonObject { ["loss"] = loss };
        }, path => Reload(path, model.Trunk));

        stages.Run("language", (_config.LanguageFit, _config.Language, _config.Tokenizer, _config.Prompt), "language.safetensors", path =>
        {
            var stage = new LanguageStage(model, prompt, tokenizer, studies, _config.SliceCount);
            double loss = stage.Run(_config.LanguageFit, workers, _config.Seed, _progress, _cancellation);
            Weights.Save(path, Weights.Of(model.Language));
            return new JsonObject { ["loss"] = loss, ["tokens"] = tokenizer.Data.Count };
        }, path => Reload(path, model.Language));
        return (new TrainedRun(_config, tokenizer, model, prompt), studies);
    }

    /// <summary>The trunk goes on with real scans beside the phantoms.</summary>
    private double LearnScans(PcrlModel model, List<TrainingStudy> phantoms, List<RealScan> scans, Workers workers) => TrunkStage.Run(
        "scans", model, _config.ScanFit, [phantoms, [.. scans.Select(s => s.Study)]], workers, _config.Seed, _progress, _cancellation);

    private List<TrainingStudy> Splice(List<RealScan> scans) => scans.Count == 0
        ? [] : RealStudies.Splice(scans, _config.ScanFit.Splices, _config.Visual.ImageSize, _config.ScanFit.Augmentation, _config.Seed);

    private double FitReports(TrainedRun run, List<TrainingStudy> studies, Workers workers)
    {
        using var features = FeatureCache.Compute(run.Model, studies, _config.SliceCount, workers, _progress, _cancellation);
        return ReportStage.Run(run.Model, run.Prompt, run.Tokenizer, _config.ReportFit, studies, features, workers, _config.Seed, _progress, _cancellation);
    }

    private IReadOnlyList<HaemorrhageCase> CrossValidate(string ctIch, int folds, IProgress<string> lines)
    {
        _folder.Create();
        using var workers = new Workers(_config.Threads);
        var scans = RealStudies.Load(ctIch, _config.Visual.ImageSize, _cancellation);
        var (begun, phantoms) = Begin(new StageStore(_folder, () => workers.Seed(_config.Seed)), workers);
        using var start = begun.Model;
        int[] foldOf = Folds([.. scans.Select(s => s.Bleeding)], folds, _config.Seed);
        var cases = new List<HaemorrhageCase>();
        for (int fold = 0; fold < folds; fold++)
        {
            workers.Seed(_config.Seed);
            List<RealScan> known = [.. scans.Where((_, i) => foldOf[i] != fold)], heldOut = [.. scans.Where((_, i) => foldOf[i] == fold)];
            using var run = begun with { Model = start.Replicate() };
            LearnScans(run.Model, phantoms, known, workers);
            // As many phantoms as splices: enough to keep the language of the phantoms, and each fold stays short.
            FitReports(run, [.. phantoms.Take(_config.ScanFit.Splices), .. Splice(known)], workers);
            using var features = FeatureCache.Compute(
                run.Model, [.. heldOut.Select(s => s.Study)], _config.SliceCount, workers, _progress, _cancellation);
            var measured = HaemorrhageCase.Measure(run, heldOut, fold, features, _progress, _cancellation);
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

    private List<TrainingStudy> Produce(string stage, ulong firstSeed, int count) => TrainingStudy.Produce(
        stage, firstSeed, count, _config.Threads, TrainingStudy.Maker(_config, _config.Phantoms.Difficulty), _progress, _cancellation);

    /// <summary>What the tokenizer shall be good at: findings, key phrases, and the prompt, which stands in every input.</summary>
    private IEnumerable<string> Texts(List<TrainingStudy> studies) => studies
        .SelectMany(s => s.Findings.Concat(s.KeyPhrases.SelectMany(p => p.Split(' '))))
        .Concat(Enumerable.Repeat(_config.Prompt.Tail, studies.Count));

    private static void Reload(string path, TorchSharp.torch.nn.Module module)
    {
        using var file = SafetensorsFile.Open(path);
        Weights.Load(file, Weights.Of(module));
    }
}
