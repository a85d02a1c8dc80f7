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
    /// <param name="ctIch">Folder of the CT-ICH scans, which then join the training of the trunk; null for phantoms alone.</param>
    /// <param name="provenance">Written into the metrics as it is: commit, command line.</param>
    /// <param name="progress">Told about every step.</param>
    /// <param name="cancellation">Stops between two steps; finished stages stay.</param>
    /// <returns>The model's and the baseline's score.</returns>
    /// <exception cref="Runtime.InputException">The folder cannot be written, or holds something damaged.</exception>
    public static PhantomScore Run(
        RunConfig config, RunFolder folder, string? ctIch, JsonObject provenance, IProgress<StageProgress> progress,
        CancellationToken cancellation) => new MiniTraining(config, folder, progress, cancellation).Run(ctIch, provenance);

    private PhantomScore Run(string? ctIch, JsonObject provenance)
    {
        _folder.Create();
        using var workers = new Workers(_config.Threads);
        var stages = new StageStore(_folder, () => workers.Seed(_config.Seed));
        List<TrainingStudy> scans = ctIch is null ? [] : RealStudies.Load(ctIch, _config.Visual.ImageSize, _cancellation);

        List<TrainingStudy> studies = [];
        stages.Run("studies", (_config.Phantoms, _config.Visual.ImageSize), "studies.bin", path =>
        {
            studies = Produce("studies", _config.Phantoms.TrainingSeed, _config.Phantoms.Training);
            StudyCache.Save(path, studies);
            return new JsonObject { ["studies"] = studies.Count };
        }, path => studies = StudyCache.Load(path));

        var tokenizer = new Tokenizer(BytePairTrainer.Train(Texts(studies), _config.Tokenizer));
        workers.Seed(_config.Seed);
        using var model = new PcrlModel(_config.Shape(tokenizer.Data));
        var prompt = new Prompt(_config.Prompt, tokenizer);

        stages.Run("trunk", (_config.TrunkFit, _config.Visual, _config.Seed, _config.Threads, scans.Count), "trunk.safetensors", path =>
        {
            double loss = TrunkStage.Run(model, _config.TrunkFit, studies, scans, workers, _config.Seed, _progress, _cancellation);
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

        stages.Run("report", (_config.ReportFit, _config.Lora), "report.safetensors", path =>
        {
            using var features = FeatureCache.Compute(model, studies, _config.SliceCount, workers, _progress, _cancellation);
            double loss = ReportStage.Run(model, prompt, tokenizer, _config.ReportFit, studies, features, workers, _config.Seed, _progress, _cancellation);
            Weights.Save(path, Weights.Of(model));
            return new JsonObject { ["loss"] = loss };
        }, path => Reload(path, model));

        _folder.Save(_config, tokenizer.Data, model);
        _folder.SavePhrases(studies.Take(PhraseStudies).SelectMany(study => study.Findings));
        var score = PhantomScore.Measure(new TrainedRun(_config, tokenizer, model, prompt), _config.Phantoms.HeldOut,
            _config.Phantoms.HeldOutSeed, _config.Phantoms.Difficulty, _progress, _cancellation);
        _folder.SaveMetrics(new JsonObject
        {
            ["name"] = _config.Name,
            ["data"] = scans.Count == 0 ? "synthetic phantoms" : $"synthetic phantoms; trunk also on {scans.Count} scans of CT-ICH (CC BY 4.0)",
            ["provenance"] = provenance,
            ["stages"] = stages.Records.DeepClone(),
            ["held_out"] = score.ToJson(),
        });
        return score;
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
