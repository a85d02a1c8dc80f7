using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Runtime.Vision;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Fitting;
using Pcrl.Train.Losses;
using Pcrl.Train.Models;
using Pcrl.Train.Models.Clip;
using Pcrl.Train.Text;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Tests.Fitting;

[Collection("torch")]
public class JointObjectiveTests
{
    private const int Slices = 24, GridCells = 16;

    private static readonly Tokenizer Tokenizer = new(BytePairTrainer.Train(["左侧额叶见片状低密度影。"], new TokenizerConfig { Tokens = 260 }));

    private static readonly Prompt Prompt = new(new PromptTemplate("<|begin_of_text|>[Img]", "[/Img][MRG]写。"), Tokenizer);

    private static PcrlModel Create(LossConfig loss, string visualTokens = "local+global")
    {
        TorchDevice.Configure(threads: 1, seed: 3);
        var model = new PcrlModel(new ModelShape(
            new VisualConfig { ImageSize = 64, Block = "basic", Depths = [1, 1, 1], Width = 4, Grid = 4, TokenWidth = 16, VisualTokens = visualTokens },
            new LlmConfig { VocabSize = Tokenizer.Data.Count, HiddenSize = 16, IntermediateSize = 32, NumHiddenLayers = 2, NumAttentionHeads = 4, NumKeyValueHeads = 2 },
            new LoraConfig { R = 2, LoraDropout = 0 },
            loss.TextEncoder == "bert"
                ? new BertConfig { VocabSize = Tokenizer.Data.Count, HiddenSize = 8, NumHiddenLayers = 1, NumAttentionHeads = 2, IntermediateSize = 16, MaxPositionEmbeddings = 64 }
                : null));
        using (no_grad())
        {
            foreach (var (_, parameter) in model.named_parameters().Where(p => p.name.Contains("lora_B")))
                parameter.normal_(); // as it starts, with zeros, lora_A would get no gradient
        }
        model.Train(loss);
        return model;
    }

    private static SliceFeatures Features(int studies) => new(randn(studies * Slices, 16), rand(studies * Slices, 16, 4, 4));

    private static JointTarget Target(LossConfig loss, string findings, params (int Slice, string Text, bool Mask)[] clues)
    {
        var texts = new ClueTexts(loss, Tokenizer);
        return new JointTarget([.. Tokenizer.Encode(findings), Tokenizer.Data.EosId], texts.Encode(findings), [.. clues.Select(c => new SliceTarget(
            c.Slice, texts.Encode(c.Text), c.Mask ? [.. Enumerable.Range(0, GridCells).Select(i => i % 3 == c.Slice % 3 ? 1f : 0)] : null))]);
    }

    private static JointTarget[] Two(LossConfig loss) =>
    [
        Target(loss, "左侧额叶见片状低密度影。", (3, "左侧额叶见片状低密度影", true), (9, "额叶", true), (20, "见片状", false)),
        Target(loss, "右侧", (0, "影", true)),
    ];

    [Fact]
    public void All_losses_reach_all_that_is_trained_and_nothing_else()
    {
        var config = new LossConfig { Contrast = "released" };
        using var scope = NewDisposeScope();
        using var model = Create(config);
        var (total, parts) = new JointObjective(Prompt, config).Loss(model, Features(2), Two(config));
        Assert.Equal(parts.Report + parts.Segmentation + parts.Entity + parts.Theme, total.item<float>(), 1e-4);
        Assert.All(new[] { parts.Report, parts.Segmentation, parts.Entity, parts.Theme }, part => Assert.True(double.IsFinite(part) && part != 0));
        total.backward();
        var trained = model.Trained(config).Select(p => p.Name).ToHashSet();
        foreach (var (name, parameter) in model.named_parameters())
            Assert.Equal(trained.Contains(name), parameter.grad is { } gradient && gradient.abs().sum().item<float>() > 0);
    }

    [Fact]
    public void Without_the_texts_gradient_the_adapters_learn_from_L_g_alone_and_the_clues_train_all_else()
    {
        Dictionary<string, float[]> Gradients(LossConfig config)
        {
            using var scope = NewDisposeScope();
            using var model = Create(config);
            new JointObjective(Prompt, config).Loss(model, Features(2), Two(config)).Total.backward();
            return model.Trained(config).ToDictionary(p => p.Name, p => Weights.Floats(p.Value.grad!));
        }
        // A coefficient so small that only what gets no gradient of the clues is the same in all of them.
        var fixedTexts = new LossConfig { Contrast = "released", Segmentation = 0, TextGradient = false };
        var (alone, withClues, moving) = (Gradients(fixedTexts with { Entity = 1e-20, Theme = 1e-20 }), Gradients(fixedTexts), Gradients(fixedTexts with { TextGradient = true }));
        foreach (var (name, gradient) in withClues)
        {
            bool adapter = LoraLinear.IsAdapter(name);
            Assert.Equal(adapter, gradient.SequenceEqual(alone[name]));
            Assert.Equal(!adapter, gradient.SequenceEqual(moving[name]));
        }
    }

    [Theory]
    [InlineData(1, 0, 0, 0, "local_seg", "align", "logit")]
    [InlineData(1, 1, 0, 0, "align", "logit")]
    [InlineData(1, 0, 1, 0, "local_seg", "global_visual_align", "global_text_align")]
    [InlineData(1, 0, 1, 1, "local_seg")]
    public void A_loss_that_is_off_costs_and_trains_nothing(double report, double segmentation, double entity, double theme, params string[] untrained)
    {
        var config = new LossConfig { Report = report, Segmentation = segmentation, Entity = entity, Theme = theme };
        using var scope = NewDisposeScope();
        using var model = Create(config);
        Assert.DoesNotContain(model.Trained(config), p => untrained.Any(p.Name.Contains));
        var (_, parts) = new JointObjective(Prompt, config).Loss(model, Features(2), Two(config));
        Assert.Equal((segmentation > 0, entity > 0, theme > 0), (parts.Segmentation != 0, parts.Entity != 0, parts.Theme != 0));
    }

    /// <summary>Each loss computed on its own, text by text, is what the packed pass gives.</summary>
    [Fact]
    public void The_packed_pass_gives_what_single_passes_give()
    {
        var config = new LossConfig();
        using var scope = NewDisposeScope();
        using var model = Create(config);
        var features = Features(2);
        var batch = Two(config);
        var (_, parts) = new JointObjective(Prompt, config).Loss(model, features, batch);

        var encoding = model.Encode(features, local: true);
        var visual = model.VisualTokens(encoding, 2);
        double Report(int study)
        {
            var prompt = Prompt.Embed(model.Language, visual[study].unsqueeze(0));
            var ids = tensor(batch[study].Findings.Select(id => (long)id).ToArray());
            var hidden = model.Language.Hidden(cat([prompt, model.Language.Embed(ids.unsqueeze(0))], dim: 1));
            var logits = model.Language.Logits(hidden.narrow(1, prompt.shape[1] - 1, ids.shape[0])).squeeze(0);
            return nn.functional.cross_entropy(logits, ids, reduction: nn.Reduction.Sum).item<float>();
        }
        int tokens = batch.Sum(s => s.Findings.Length);
        Assert.Equal((Report(0) + Report(1)) / tokens, parts.Report, 1e-4);

        Tensor Last(int[] text) => model.Language.Hidden(model.Language.Embed(tensor(text.Select(id => (long)id).ToArray()).unsqueeze(0)))[0, -1];
        var entityTexts = stack(batch.SelectMany(s => s.Slices).Select(s => Last(s.Text)));
        long[] at = [3, 9, 20, 24];
        var cosine = ContrastiveLoss.Cosine(
            model.Local.Visual.forward(encoding.Local!.index_select(0, tensor(at))), model.Local.Text.forward(entityTexts));
        Assert.Equal(ContrastiveLoss.Paper(cosine / 0.07, 0.25, 0.25).item<float>(), parts.Entity, 1e-3);

        var brightest = stack([encoding.Global[..24].amax([0]), encoding.Global[24..].amax([0])]);
        cosine = ContrastiveLoss.Cosine(model.Global.Visual.forward(brightest), model.Global.Text.forward(stack(batch.Select(s => Last(s.Theme)))));
        Assert.Equal(ContrastiveLoss.Paper(cosine / 0.07, 0.5, 0.5).item<float>(), parts.Theme, 1e-3);
    }

    /// <summary>A text of weight w counts in L_g as if it stood there w times; weights that are all the same change nothing.</summary>
    [Fact]
    public void A_heavy_study_counts_more_in_L_g_and_in_nothing_else()
    {
        var config = new LossConfig();
        using var scope = NewDisposeScope();
        using var model = Create(config, "global"); // the local branch normalises over its batch, so that a study alone gives other tokens
        var features = Features(2);
        var batch = Two(config);
        LossParts Parts(SliceFeatures of, params JointTarget[] targets) => new JointObjective(Prompt, config).Loss(model, of, targets).Parts;
        SliceFeatures One(int study) => new(features.Pooled.narrow(0, study * Slices, Slices), features.Grid.narrow(0, study * Slices, Slices));
        var (even, heavy) = (Parts(features, batch), Parts(features, batch[0], batch[1] with { Weight = 3 }));
        var (first, second) = (batch[0].Findings.Length * Parts(One(0), batch[0]).Report, batch[1].Findings.Length * Parts(One(1), batch[1]).Report);
        Assert.Equal((first + 3 * second) / (batch[0].Findings.Length + 3 * batch[1].Findings.Length), heavy.Report, 1e-4);
        Assert.True(Math.Abs(even.Report - heavy.Report) > 1e-2);
        Assert.Equal((even.Segmentation, even.Entity, even.Theme), (heavy.Segmentation, heavy.Entity, heavy.Theme));
        Assert.Equal(even.Report, Parts(features, batch[0] with { Weight = 3 }, batch[1] with { Weight = 3 }).Report, 1e-4);
    }

    [Fact]
    public void Without_pairs_masks_or_entities_a_part_is_zero_and_the_rest_trains()
    {
        var config = new LossConfig();
        using var scope = NewDisposeScope();
        using var model = Create(config);
        var objective = new JointObjective(Prompt, config);
        var one = new[] { Target(config, "右侧", (5, "影", false)) }; // batch 1, N_d = 1, no mask
        var (total, parts) = objective.Loss(model, Features(1), one);
        Assert.Equal((0, 0, 0), (parts.Segmentation, parts.Entity, parts.Theme));
        Assert.Equal(parts.Report, total.item<float>(), 1e-5);
        total.backward();

        (total, parts) = objective.Loss(model, Features(2), [Target(config, "右侧"), Target(config, "左侧")]); // N_d = 0
        Assert.Equal((0, 0), (parts.Segmentation, parts.Entity));
        Assert.NotEqual(0, parts.Theme);
        total.backward();

        var segmentationOnly = new LossConfig { Report = 0, Entity = 0, Theme = 0 };
        (total, _) = new JointObjective(Prompt, segmentationOnly).Loss(model, Features(1), one);
        Assert.Equal(0, total.item<float>());
        total.backward();
    }

    [Theory]
    [InlineData("paper")]
    [InlineData("released")]
    public void Equal_texts_are_no_negatives_where_they_are_spared(string form)
    {
        var contrast = new LossConfig { Report = 0, Segmentation = 0, Theme = 0, Contrast = form };
        var spare = contrast with { EqualTexts = "spare" };
        using var scope = NewDisposeScope();
        using var model = Create(contrast);
        var features = Features(2);
        double Entity(LossConfig config, params string[] texts) => new JointObjective(Prompt, config).Loss(model, features,
            [Target(config, "右", [.. texts.Select((t, i) => (i, t, false))]), Target(config, "左")]).Parts.Entity;
        Assert.Equal(Entity(contrast, "额叶", "影", "左侧"), Entity(spare, "额叶", "影", "左侧"), 1e-5);
        Assert.True(Entity(spare, "额叶", "影", "额叶") < Entity(contrast, "额叶", "影", "额叶"));
        Assert.Equal(0, Entity(spare, "额叶", "额叶", "额叶"));
    }

    [Fact]
    public void Bert_reads_the_texts_where_it_is_asked_to_and_stays_frozen()
    {
        var config = new LossConfig { TextEncoder = "bert" };
        using var scope = NewDisposeScope();
        using var model = Create(config);
        var (total, parts) = new JointObjective(Prompt, config).Loss(model, Features(2), Two(config));
        Assert.True(parts.Entity != 0 && parts.Theme != 0);
        total.backward();
        Assert.All(model.TextModel!.parameters(), p => Assert.Null(p.grad));
        Assert.NotNull(model.get_parameter("local_bert_align.weight")!.grad);
        Assert.Null(model.get_parameter("local_text_align.weight")!.grad);
    }

    [Fact]
    public void The_papers_visual_tokens_are_the_global_ones_and_the_clues_still_train_the_local_branch()
    {
        var config = new LossConfig();
        using var scope = NewDisposeScope();
        using var model = Create(config, visualTokens: "global");
        var (total, _) = new JointObjective(Prompt, config).Loss(model, Features(2), Two(config));
        total.backward();
        Assert.NotNull(model.get_parameter("local_res.0.conv1.weight")!.grad);
    }
}
