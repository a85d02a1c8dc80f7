using Pcrl.Runtime;
using Pcrl.Runtime.Language;
using Pcrl.Runtime.Vision;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Fitting;
using Pcrl.Train.Losses;
using Pcrl.Train.Models;
using Pcrl.Train.Text;
using Pcrl.Train.Torch;

namespace Pcrl.Train.Tests.Fitting;

[Collection("torch")]
public sealed class JointFitTests : IDisposable
{
    private static readonly RunConfig Config = new()
    {
        Threads = 2,
        Phantoms = new PhantomConfig { ImageSize = 64 },
        Visual = new VisualConfig { ImageSize = 32, Block = "basic", Depths = [1, 1], Width = 4, Grid = 4 },
        Language = new LlmConfig { HiddenSize = 16, IntermediateSize = 32, NumHiddenLayers = 1, NumAttentionHeads = 2, NumKeyValueHeads = 1 },
        Lora = new LoraConfig { R = 2, LoraDropout = 0.3f },
        Loss = new LossConfig(),
        JointFit = new JointFitConfig { Steps = 6, Batch = 4, LearningRate = 3e-3, CheckpointEvery = 1, Masks = "coverage", Patience = 6 },
    };

    private static readonly TrainingStudy[] Studies = [.. Enumerable.Range(0, 6).Select(i => TrainingStudy.Maker(Config, 0.3f)((ulong)(40 + i)))];

    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-fit-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string CheckpointFile => Path.Combine(_folder, "fit.safetensors");

    /// <summary>Fits, stopping after some steps, and gives what was fitted and the history.</summary>
    private (float[] Weights, FitHistory History) Fit(RunConfig config, bool resume, int stopAfter = int.MaxValue, string key = "key", TrainingStudy[]? studies = null)
    {
        studies ??= Studies[..4];
        using var workers = new Workers(config.Threads);
        workers.Seed(3);
        var tokenizer = new Tokenizer(BytePairTrainer.Train(Studies.SelectMany(s => s.Findings), new TokenizerConfig { Tokens = 300 }));
        using var run = new TrainedRun(config, tokenizer, new PcrlModel(config.Shape(tokenizer.Data)), new Prompt(config.Prompt, tokenizer));
        var none = new Progress<StageProgress>();
        using var training = new FeatureSet(studies, FeatureCache.Compute(null, run.Model, studies, 24, workers, none, default));
        using var validation = new FeatureSet(Studies[4..], FeatureCache.Compute(null, run.Model, Studies[4..], 24, workers, none, default));
        using var fit = new JointFit(run, workers, training, validation);
        using var source = new CancellationTokenSource();
        try
        {
            fit.Run(new FitCheckpoint(CheckpointFile, key), resume, null, new Stopper(p => { if (p.Done == stopAfter) source.Cancel(); }), source.Token);
        }
        catch (OperationCanceledException)
        {
            // as wanted
        }
        return ([.. RunFolder.Fitted(run.Model).SelectMany(w => Weights.Floats(w.Value))], fit.History);
    }

    private sealed class Stopper(Action<StageProgress> also) : IProgress<StageProgress>
    {
        public void Report(StageProgress value) => also(value);
    }

    [Fact]
    public void A_fit_that_was_stopped_goes_on_to_the_same_bits()
    {
        var (whole, history) = Fit(Config, resume: false);
        Assert.Equal(6, history.Steps.Count);
        Assert.Equal(6, history.Epochs.Count); // four studies, four a step
        Assert.All(history.Steps, s => Assert.True(s.Parts is { Report: > 0, Segmentation: > 0 } && s.Parts.Entity != 0 && s.Parts.Theme != 0));
        File.Delete(CheckpointFile);

        Fit(Config, resume: false, stopAfter: 2);
        Fit(Config, resume: true, stopAfter: 5);
        var (resumed, again) = Fit(Config, resume: true);
        Assert.Equal(whole, resumed);
        Assert.Equal(history.Steps.Select(s => s.Loss), again.Steps.Select(s => s.Loss));
        Assert.NotEqual(whole, Fit(Config with { JointFit = Config.JointFit with { Seed = 2 } }, resume: false).Weights);
    }

    [Fact]
    public void Views_of_scans_are_spliced_anew_in_every_turn()
    {
        // Neither weights nor dropout change anything: losses differ only where texts or slices do, and two studies of three wordings each make nine pairs.
        var still = Config with
        {
            Threads = 1, Lora = Config.Lora with { LoraDropout = 0 }, Loss = new LossConfig { Segmentation = 0, Entity = 0, Theme = 0 },
            JointFit = Config.JointFit with { Batch = 2, Steps = 40, LearningRate = 0, CheckpointEvery = 0, Patience = 0 },
        };
        TrainingStudy[] views = [.. new[] { LesionKind.Subdural, LesionKind.Epidural }.Select((kind, i) => RealStudies.Labelled((ulong)i, Studies[i].Slices,
            [.. Enumerable.Range(0, still.SliceCount).SelectMany(slice => SliceLabels.Of(new CtIchSlice(slice + 1, "", [kind], false)))]) with { Spliceable = true })];
        int Losses(TrainingStudy[] studies) => Fit(still, resume: false, studies: studies).History.Steps.Select(s => MathF.Round((float)s.Loss, 5)).Distinct().Count();
        Assert.InRange(Losses([.. views.Select(v => v with { Spliceable = false })]), 2, 9);
        Assert.InRange(Losses(views), 20, 40);
    }

    [Fact]
    public void A_fit_with_views_that_was_stopped_goes_on_to_the_same_bits()
    {
        TrainingStudy[] mixed = [.. Studies[..2], .. Studies[2..4].Select((s, i) => RealStudies.Labelled((ulong)i, s.Slices, s.Labels) with { Spliceable = true })];
        float[] whole = Fit(Config, resume: false, studies: mixed).Weights;
        File.Delete(CheckpointFile);
        Fit(Config, resume: false, stopAfter: 3, studies: mixed);
        Assert.Equal(whole, Fit(Config, resume: true, studies: mixed).Weights);
    }

    [Fact]
    public void The_best_epoch_is_what_remains_and_patience_ends_the_fit()
    {
        // A rate of zero never brings anything better than the first epoch.
        var still = Config with { JointFit = Config.JointFit with { LearningRate = 0, Steps = 20, Patience = 2 } };
        Assert.Equal(3, Fit(still, resume: false).History.Steps.Count);
        Assert.Equal(3, Fit(still, resume: true).History.Steps.Count); // and it stays ended

        // At a rate that does not depend on the number of steps, the weights that remain are those of a fit that ends with the best epoch.
        var moving = Config with { JointFit = Config.JointFit with { Schedule = "epochs", Steps = 20, Patience = 2 } };
        var (best, history) = Fit(moving, resume: false);
        var shorter = moving with { JointFit = moving.JointFit with { Steps = history.Best!.Step, Patience = 0 } };
        Assert.True(history.Steps.Count > history.Best.Step);
        Assert.Equal(Fit(shorter, resume: false).Weights, best);
        Assert.NotEqual(Fit(shorter with { JointFit = shorter.JointFit with { Steps = history.Steps.Count } }, resume: false).Weights, best);
        File.Delete(CheckpointFile);
        Fit(moving, resume: false, stopAfter: history.Best.Step + 1);
        Assert.Equal(best, Fit(moving, resume: true).Weights); // a checkpoint keeps them
    }

    [Fact]
    public void A_fit_that_runs_away_says_so_before_it_writes_a_checkpoint()
    {
        var error = Assert.Throws<InputException>(() => Fit(Config with { JointFit = Config.JointFit with { LearningRate = 1e20, WarmUp = 0 } }, resume: false));
        Assert.Contains("a lower learning rate may help", error.Message);
        Assert.False(File.Exists(CheckpointFile));
    }

    [Fact]
    public void A_checkpoint_that_cannot_be_written_says_so_and_leaves_the_last_good_one()
    {
        Fit(Config, resume: false, stopAfter: 2);
        byte[] good = File.ReadAllBytes(CheckpointFile);
        Directory.CreateDirectory($"{CheckpointFile}.tmp-{Environment.ProcessId}"); // where the next one would be written
        var error = Assert.Throws<InputException>(() => Fit(Config, resume: true));
        Assert.Contains("fit.safetensors", error.Message);
        Assert.Equal(good, File.ReadAllBytes(CheckpointFile));
    }

    [Fact]
    public void A_checkpoint_that_is_damaged_or_of_another_run_is_refused_by_name()
    {
        Fit(Config, resume: false, stopAfter: 2);
        Assert.Contains("another configuration", Assert.Throws<InputException>(() => Fit(Config, resume: true, key: "other")).Message);
        byte[] whole = File.ReadAllBytes(CheckpointFile);
        File.WriteAllBytes(CheckpointFile, whole[..^100]);
        Assert.Contains("fit.safetensors", Assert.Throws<InputException>(() => Fit(Config, resume: true)).Message);
        File.WriteAllText(CheckpointFile, "no checkpoint at all");
        Assert.Contains("fit.safetensors", Assert.Throws<InputException>(() => Fit(Config, resume: true)).Message);
    }

    [Fact]
    public void The_rate_falls_by_epoch_where_that_is_asked_for()
    {
        var rates = Fit(Config with { JointFit = Config.JointFit with { Schedule = "epochs", EpochDecay = 0.5, Patience = 0, Steps = 3 } }, resume: false)
            .History.Steps.Select(s => s.LearningRate);
        Assert.Equal([3e-3, 1.5e-3, 0.75e-3], rates.Select(r => Math.Round(r, 9)));
    }
}
