using System.Text.Json.Nodes;
using Pcrl.Runtime;
using Pcrl.Runtime.Language;
using Pcrl.Runtime.Vision;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Fitting;
using Pcrl.Train.Losses;
using Pcrl.Train.Models;
using Pcrl.Train.Models.Clip;
using Pcrl.Train.Quantisation;
using Pcrl.Train.Text;
using Pcrl.Train.Torch;
using static TorchSharp.torch;

namespace Pcrl.Train.Tests.Fitting;

[Collection("torch")]
public sealed class TrainingPipelineTests : IDisposable
{
    private static readonly FitConfig Two = new() { Steps = 2, Batch = 2 };

    internal static readonly RunConfig Tiny = new()
    {
        Threads = 2,
        Phantoms = new PhantomConfig { Training = 3, HeldOut = 2, ImageSize = 64, Wordings = 2 },
        Tokenizer = new TokenizerConfig { Tokens = 300 },
        Visual = new VisualConfig { ImageSize = 32, Block = "basic", Depths = [1, 1], Width = 4, Grid = 4 },
        Language = new LlmConfig { HiddenSize = 16, IntermediateSize = 32, NumHiddenLayers = 1, NumAttentionHeads = 2, NumKeyValueHeads = 1 },
        Lora = new LoraConfig { R = 2 },
        TrunkFit = new TrunkFitConfig { Steps = 2, Batch = 2 },
        LanguageFit = Two,
        Loss = new LossConfig { Contrast = "released" },
        JointFit = new JointFitConfig { Steps = 2, Batch = 4, CheckpointEvery = 1, Masks = "coverage" },
    };

    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-run-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void A_run_leaves_a_folder_that_loads_to_the_same_bits_and_is_not_done_twice()
    {
        var first = new Recorder();
        Run(Tiny, first);
        Assert.Equal(["studies", "trunk", "language", "held-out", "features", "fit", "features", "write"], first.Stages);
        foreach (string file in (string[])["config.json", "tokenizer.json", "model.safetensors", "adapter_model.safetensors", "adapter_config.json", "metrics.json"])
            Assert.True(File.Exists(Path.Combine(_folder, file)), file);
        byte[] weights = File.ReadAllBytes(Path.Combine(_folder, "model.safetensors"));
        var copying = JsonNode.Parse(File.ReadAllBytes(Path.Combine(_folder, "metrics.json")))!["held_out"]!["copying"]!.AsArray();
        Assert.Equal([Evaluator.MostFrequentName, Evaluator.NearestName], copying.Select(row => row!["name"]!.GetValue<string>()));

        using (var loaded = new RunFolder(_folder).Load())
        using (var scope = TorchSharp.torch.NewDisposeScope())
        {
            string copy = Path.Combine(_folder, "copy");
            new RunFolder(copy).Create();
            new RunFolder(copy).Save(loaded.Config, loaded.Tokenizer.Data, loaded.Model);
            Assert.Equal(weights, File.ReadAllBytes(Path.Combine(copy, "model.safetensors")));
        }

        // Everything is there, features too: only the measurement runs again, and it comes to the same.
        var second = new Recorder();
        Run(Tiny, second);
        Assert.Equal(["held-out", "write"], second.Stages);
        Assert.Equal(weights, File.ReadAllBytes(Path.Combine(_folder, "model.safetensors")));

        // A changed stage runs again with all that follows it, and what stands before it is kept.
        var third = new Recorder();
        Run(Tiny with { LanguageFit = Two with { LearningRate = 2e-3 } }, third);
        Assert.Equal(["language", "held-out", "fit", "write"], third.Stages);
        Assert.NotEqual(weights, File.ReadAllBytes(Path.Combine(_folder, "model.safetensors")));
    }

    [Fact]
    public void An_interrupted_run_goes_on_and_ends_as_if_it_had_not_been()
    {
        using var source = new CancellationTokenSource();
        var interrupting = new Recorder(p => { if (p is { Stage: "language", Done: 1 }) source.Cancel(); });
        Assert.ThrowsAny<OperationCanceledException>(() => Run(Tiny, interrupting, source.Token));
        Assert.False(File.Exists(Path.Combine(_folder, "metrics.json")));
        Assert.Empty(Directory.GetFiles(_folder, "*.tmp*", SearchOption.AllDirectories));

        var resumed = new Recorder();
        Run(Tiny, resumed);
        Assert.Equal("language", resumed.Stages[0]);
        byte[] weights = File.ReadAllBytes(Path.Combine(_folder, "model.safetensors"));

        Directory.Delete(_folder, recursive: true);
        Run(Tiny, new Recorder());
        Assert.Equal(weights, File.ReadAllBytes(Path.Combine(_folder, "model.safetensors")));
    }

    /// <summary>The LLM that one run taught is brought along into another, which keeps it in NF4 and writes down only what it trained.</summary>
    [Theory]
    [InlineData(BaseWeights.Nf4)]
    [InlineData(BaseWeights.Bfloat16)]
    public void A_fit_over_a_compressed_LLM_that_was_brought_along_loads_to_the_same_model(BaseWeights kind)
    {
        Run(Tiny, new Recorder());
        string llm = Directory.CreateDirectory(Path.Combine(_folder, "llm")).FullName, trunk = Path.Combine(_folder, "stages", "trunk.safetensors");
        File.Copy(Path.Combine(_folder, "tokenizer.json"), Path.Combine(llm, "tokenizer.json"));
        File.Copy(Path.Combine(_folder, "stages", "language.safetensors"), Path.Combine(llm, "model.safetensors"));

        var folder = new RunFolder(Path.Combine(_folder, "fitted"));
        var config = Tiny with { Threads = 1, LanguageBase = kind, Pretrained = new PretrainedConfig { Trunk = trunk, Language = llm } };
        var stages = new Recorder();
        var written = TrainingPipeline.Run(config, folder, null, false, new JsonObject(), stages, default);
        Assert.DoesNotContain("trunk", stages.Stages);
        Assert.DoesNotContain("language", stages.Stages);
        using (var file = SafetensorsFile.Open(folder.ModelPath))
            Assert.DoesNotContain(file.Names, name => name.StartsWith("language_model.", StringComparison.Ordinal));

        using (var loaded = folder.Load())
        {
            TorchDevice.Configure(1, 1);
            var again = HeldOutScore.Measure(loaded, config.Phantoms.HeldOut, config.Phantoms.HeldOutSeed, config.Phantoms.Difficulty, new Recorder(), default);
            Assert.Equal(written.Reports, again.Reports);
        }
        // The fit belongs to the weights that it stood on: over others it is made anew.
        stages = new Recorder();
        TrainingPipeline.Run(config, folder, null, false, new JsonObject(), stages, default);
        Assert.DoesNotContain("fit", stages.Stages);
        File.SetLastWriteTimeUtc(trunk, File.GetLastWriteTimeUtc(trunk).AddSeconds(1));
        TrainingPipeline.Run(config, folder, null, false, new JsonObject(), stages, default);
        Assert.Contains("fit", stages.Stages);

        File.Delete(Path.Combine(llm, "model.safetensors"));
        Assert.Contains("holds no weights", Assert.Throws<InputException>(() => folder.Load().Dispose()).Message);
    }

    [Fact]
    public void A_BERT_that_was_brought_along_reads_the_clues_in_its_own_word_pieces()
    {
        var bert = new BertConfig { VocabSize = 8, HiddenSize = 8, NumHiddenLayers = 1, NumAttentionHeads = 2, IntermediateSize = 8, MaxPositionEmbeddings = 256 };
        string brought = Directory.CreateDirectory(Path.Combine(_folder, "bert")).FullName, vocabulary = Path.Combine(brought, "vocab.txt");
        File.WriteAllLines(vocabulary, ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "脑", "左", "影"]);
        float[] weights;
        using (var model = new Bert(bert))
        {
            weights = [.. Weights.Of(model).SelectMany(w => Weights.Floats(w.Value))];
            Weights.Save(Path.Combine(brought, "model.safetensors"), Weights.Of(model).Select(w => ("bert." + w.Name, w.Value)));
        }
        var config = Tiny with { Bert = bert, Loss = new LossConfig { TextEncoder = "bert" }, Pretrained = new PretrainedConfig { Bert = brought } };
        Run(config, new Recorder());
        using (var run = new RunFolder(_folder).Load())
        {
            Assert.Equal(weights, Weights.Of(run.Model.TextModel!).SelectMany(w => Weights.Floats(w.Value)));
            var study = TrainingStudy.Maker(config, 0.3f)(1) with { Findings = ["左脑。"] };
            Assert.Equal([2, 6, 5, 1, 3], new JointTargets(run.Tokenizer, config).Of(study)[0].Theme); // [CLS] 左 脑 and what is not known [SEP]
        }
        File.AppendAllText(vocabulary, "右\n");
        Assert.Contains("vocab.txt: has 9 pieces", Assert.Throws<InputException>(() => Run(config, new Recorder())).Message);
        Assert.Contains("vocab_size is 8, fewer", Assert.Throws<InputException>(() => Run(config with { Pretrained = new PretrainedConfig() }, new Recorder())).Message);
        File.Delete(vocabulary);
        var seen = new Recorder();
        Assert.Equal($"{vocabulary}: no such file or folder", Assert.Throws<InputException>(() => Run(config, seen)).Message);
        Assert.Empty(seen.Stages); // said before anything is taught
    }

    [Fact]
    public void The_profile_of_a_fit_finds_no_tensor_that_a_step_leaves_behind()
    {
        var profile = FitProfile.Measure(Tiny, 40, new Recorder(), default);
        Assert.Equal(10, profile.Memory.Count);
        Assert.Single(profile.Memory.Skip(1).Select(m => m.Tensors).Distinct());
        Assert.True(profile.Fit > 0 && profile.Bare > 0);
    }

    [Fact]
    public void Only_one_fit_is_made_over_a_quantised_LLM()
    {
        Run(Tiny, new Recorder());
        string llm = Path.Combine(_folder, "stages");
        var config = Tiny with { Threads = 1, LanguageBase = BaseWeights.Nf4, Pretrained = new PretrainedConfig { Language = llm } };
        foreach (Action several in (Action[])[
            () => new Ablation([config], [1, 2], _folder).Run(_ => { }, new Recorder(), default),
            () => CrossValidation.Run(config, new RunFolder(_folder), _folder, 2, new Progress<string>(), new Recorder(), default),
            () => FitProfile.Measure(config, 40, new Recorder(), default)])
            Assert.Contains("one fit is all", Assert.Throws<InputException>(several).Message);
    }

    [Fact]
    public void A_context_without_room_for_findings_is_refused_before_anything_is_taught()
    {
        var stages = new Recorder();
        var error = Assert.Throws<InputException>(() => Run(Tiny with { ContextLength = Tiny.Visual.TokenCount(24) + 5 }, stages));
        Assert.Contains("no room is left for findings", error.Message);
        Assert.Equal(["studies"], stages.Stages);
    }

    [Fact]
    public void An_ablation_sets_its_rows_beside_what_copying_scores()
    {
        var table = new Ablation([Tiny with { Name = "baseline" }], [1], _folder).Run(_ => { }, new Recorder(), default);
        Assert.Equal([Evaluator.MostFrequentName, Evaluator.NearestName, "baseline"], table.Rows.Select(row => row.Name));
        Assert.Contains("| nearest report | copied |", table.ToMarkdown());
    }

    private void Run(RunConfig config, Recorder progress, CancellationToken cancellation = default) =>
        TrainingPipeline.Run(config, new RunFolder(_folder), ctIch: null, resume: true, new JsonObject(), progress, cancellation);

    private sealed class Recorder(Action<StageProgress>? also = null) : IProgress<StageProgress>
    {
        /// <summary>Stages in the order in which they began.</summary>
        public List<string> Stages { get; } = [];

        public void Report(StageProgress value)
        {
            if (value.Done == 1 || Stages.Count == 0 || (Stages[^1] != value.Stage))
                Stages.Add(value.Stage);
            also?.Invoke(value);
        }
    }
}
