using System.Text.Json.Nodes;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Models;
using Pcrl.Train.Models.Clip;
using Pcrl.Train.Quantisation;
using Pcrl.Train.Text;
using Pcrl.Train.Torch;
using static TorchSharp.torch;

namespace Pcrl.Train.Fitting;

/// <summary>What is frozen in the joint fit: trunk, LLM and tokenizer. Any number of fits start from one.</summary>
/// <param name="Run">The model as far as it goes, with its tokenizer and prompt.</param>
/// <param name="Heads">What taught the trunk; fresh where it was brought along.</param>
/// <param name="Phantoms">The phantoms it was made from.</param>
internal sealed record BaseModel(TrainedRun Run, TrunkHeads Heads, IReadOnlyList<TrainingStudy> Phantoms) : IDisposable
{
    private const string HeadPrefix = "heads.";

    /// <summary>One label-derived text for so many phantoms, where scans join: the frozen LLM has to know how those are worded.</summary>
    private const int LabelTexts = 4;

    /// <summary>Makes phantoms, trunk, tokenizer and LLM, as far as they are not brought along or lie in the run folder already.</summary>
    /// <param name="config">The run.</param>
    /// <param name="stages">Keeps what is finished.</param>
    /// <param name="scans">Whether real scans will join with label-derived texts.</param>
    /// <param name="workers">Who computes.</param>
    /// <param name="progress">Told about every step.</param>
    /// <param name="cancellation">Stops between two steps.</param>
    public static BaseModel Make(
        RunConfig config, StageStore stages, bool scans, Workers workers, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        List<TrainingStudy> studies = [];
        if (config is not { Pretrained: { Trunk: not null, Language: not null }, Data.Source: not "phantoms" })
        {
            stages.Run("studies", (config.Phantoms with { Validation = 0, HeldOut = 1 }, config.Visual.ImageSize), "studies.bin", path =>
            {
                studies = TrainingStudy.Produce("studies", config.Phantoms.TrainingSeed, config.Phantoms.Training, config.Threads,
                    TrainingStudy.Maker(config, config.Phantoms.Difficulty), progress, cancellation);
                StudyCache.Save(path, studies);
                return new JsonObject { ["studies"] = studies.Count };
            }, path => studies = StudyCache.Load(path));
        }

        List<TrainingStudy> texts = [.. studies, .. scans ? LabelFindings.Lessons(studies.Count / LabelTexts) : []];
        var tokenizer = new Tokenizer(config.Pretrained.Language is { } folder
            ? TokenizerData.Load(Path.Combine(folder, "tokenizer.json"))
            : BytePairTrainer.Train(Texts(config, texts), config.Tokenizer));
        workers.Seed(config.Seed);
        var prompt = new Prompt(config.Prompt, tokenizer);
        if (config.ContextLength <= prompt.TokenCount + config.Visual.TokenCount(config.SliceCount))
            throw new Runtime.InputException(config.Name, $"context_length is {config.ContextLength}: behind {prompt.TokenCount} tokens of the prompt and the visual ones no room is left for findings");
        var model = new PcrlModel(config.Shape(tokenizer.Data));
        var run = new TrainedRun(config, tokenizer, model, prompt);
        var heads = new TrunkHeads(model.Shape.Visual.FeatureChannels);
        if (config.Pretrained.Trunk is { } trunk)
        {
            Load(trunk, model.Trunk);
        }
        else
        {
            stages.Run("trunk", (config.TrunkFit, config.Visual, config.Seed, config.Threads), "trunk.safetensors", path =>
            {
                double loss = TrunkStage.Run("trunk", model, heads, config.TrunkFit, [studies], workers, config.Seed, progress, cancellation);
                Weights.Save(path, Weights.Of(model.Trunk).Concat(Weights.Of(heads).Select(w => (HeadPrefix + w.Name, w.Value))));
                return new JsonObject { ["loss"] = loss };
            }, path =>
            {
                Load(path, model.Trunk);
                Load(path, heads, HeadPrefix);
            });
        }
        if (config.Pretrained.Language is { } language)
        {
            using var file = Checkpoint.Open(language);
            model.Language.LoadBase(file);
        }
        else
        {
            object settings = (config.LanguageFit, config.Language, config.Tokenizer, config.Prompt);
            if (scans)
                settings = (settings, LabelTexts);
            stages.Run("language", settings, "language.safetensors", path =>
            {
                double loss = new LanguageStage(model, run.Prompt, tokenizer, texts, config.SliceCount).Run(config.LanguageFit, workers, config.Seed, progress, cancellation);
                Weights.Save(path, LanguageBase(model));
                return new JsonObject { ["loss"] = loss, ["tokens"] = tokenizer.Data.Count };
            }, path =>
            {
                using var file = Checkpoint.Open(path);
                Weights.Load(file, LanguageBase(model));
            });
        }
        return new BaseModel(run, heads, studies);
    }

    /// <summary>The trunk goes on with real scans beside the phantoms; returns the loss at the end.</summary>
    public double LearnScans(IReadOnlyList<RealScan> scans, IReadOnlyList<RealScan> painted, Workers workers, IProgress<StageProgress> progress, CancellationToken cancellation) => TrunkStage.Run(
        "scans", Run.Model, Heads, Run.Config.ScanFit, [Phantoms, .. new[] { scans, painted }.Where(s => s.Count > 0).Select(s => s.Select(scan => scan.Study).ToArray())], workers, Run.Config.Seed, progress, cancellation);

    /// <summary>
    /// A model to fit: frozen parts from here, all that is fitted fresh from the fit's own seed. A quantised LLM is there once only, so then it is this model.
    /// </summary>
    /// <exception cref="Runtime.InputException">The BERT that is brought along does not fit.</exception>
    public TrainedRun Start(RunConfig config, Workers workers)
    {
        var run = Run with { Config = config };
        if (config.LanguageBase == BaseWeights.Float32)
            run = run with { Model = Fresh(config, workers) };
        if (run.Model.TextModel is { } bert)
            Bring(bert, config);
        return run;
    }

    private PcrlModel Fresh(RunConfig config, Workers workers)
    {
        workers.Seed(config.JointFit.Seed);
        var model = new PcrlModel(config.Shape(Run.Tokenizer.Data));
        var fitted = RunFolder.Fitted(model).Select(w => w.Name).ToHashSet();
        var values = Weights.Of(Run.Model).ToDictionary(w => w.Name, w => w.Value);
        using var nothing = no_grad();
        foreach (var (name, value) in Weights.Of(model))
        {
            if (!fitted.Contains(name) && values.TryGetValue(name, out var frozen))
                value.copy_(frozen);
        }
        return model;
    }

    /// <summary>Gives the frozen text encoder of ablation (e) the weights that were brought along, if any.</summary>
    private void Bring(Bert bert, RunConfig config)
    {
        if (config.Pretrained is not { Bert: { } folder, BertVocabulary: { } vocabulary })
        {
            if (Run.Tokenizer.Data.Count > config.Bert.VocabSize)
                throw new Runtime.InputException(config.Name, $"bert.vocab_size is {config.Bert.VocabSize}, fewer than the tokenizer's {Run.Tokenizer.Data.Count}");
            return;
        }
        MedClipScorer.ReadVocabulary(vocabulary);
        if (File.ReadLines(vocabulary).Count() is var pieces && pieces > config.Bert.VocabSize)
            throw new Runtime.InputException(vocabulary, $"has {pieces} pieces, bert.vocab_size is {config.Bert.VocabSize}");
        using var file = Checkpoint.Open(folder);
        bert.Load(file);
    }

    /// <summary>What the tokenizer shall be good at: findings, key phrases, and the prompt, which stands in every input.</summary>
    private static IEnumerable<string> Texts(RunConfig config, List<TrainingStudy> studies) => studies
        .SelectMany(s => s.Findings.Concat(s.KeyPhrases.SelectMany(p => p.Split(' '))))
        .Concat(Enumerable.Repeat(config.Prompt.Tail, studies.Count));

    /// <summary>What the language stage teaches: all but the adapters, which the fit begins anew and whose shape is the fit's affair.</summary>
    private static IEnumerable<(string Name, Tensor Value)> LanguageBase(PcrlModel model) => Weights.Of(model.Language).Where(w => !LoraLinear.IsAdapter(w.Name));

    /// <summary>Fills a part of a model from a file.</summary>
    public static void Load(string path, nn.Module module, string prefix = "")
    {
        using var file = Checkpoint.Open(path);
        Weights.Load(file, Weights.Of(module), name => prefix + name);
    }

    public void Dispose()
    {
        Heads.Dispose();
        Run.Dispose();
    }
}
