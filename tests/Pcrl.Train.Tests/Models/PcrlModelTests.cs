using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Runtime.Vision;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Losses;
using Pcrl.Train.Models;
using Pcrl.Train.Models.Clip;
using Pcrl.Train.Quantisation;
using Pcrl.Train.Text;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Tests.Models;

[Collection("torch")]
public class PcrlModelTests
{
    private static readonly TokenizerData Data = BytePairTrainer.Train(["左侧额叶见片状低密度影。"], new TokenizerConfig { Tokens = 260 });

    private static readonly ModelShape Shape = new(
        new VisualConfig { ImageSize = 64, Block = "basic", Depths = [1, 1, 1], Width = 4, Grid = 4, TokenWidth = 16 },
        new LlmConfig { VocabSize = Data.Count, HiddenSize = 16, IntermediateSize = 32, NumHiddenLayers = 2, NumAttentionHeads = 4, NumKeyValueHeads = 2 },
        new LoraConfig { R = 2 });

    private static PcrlModel Create(ModelShape? shape = null)
    {
        TorchDevice.Configure(threads: 1, seed: 3);
        return new PcrlModel(shape ?? Shape);
    }

    [Fact]
    public void Parameter_names_are_the_authors()
    {
        using var model = Create();
        var names = Weights.Of(model).Select(w => w.Name).ToHashSet();
        foreach (string name in (string[])
        [
            "trunk.conv1.weight", "trunk.bn1.running_mean", "trunk.layer2.0.conv1.weight", "trunk.layer2.0.downsample.0.weight",
            "trunk.layer2.0.downsample.1.running_var", "local_res.0.conv1.weight", "local_res.0.downsample.0.weight", "local_res.0.downsample.1.weight",
            "local_res.1.bn2.bias", "local_visual_projector.weight", "local_visual_projector.bias", "global_visual_projector.0.weight",
            "global_visual_projector.1.bias", "language_model.model.embed_tokens.weight", "language_model.model.layers.1.self_attn.q_proj.weight",
            "language_model.model.layers.1.self_attn.q_proj.lora_A.weight", "language_model.model.layers.0.self_attn.v_proj.lora_B.weight",
            "language_model.model.layers.0.mlp.down_proj.weight", "language_model.model.layers.0.post_attention_layernorm.weight",
            "language_model.model.norm.weight", "language_model.lm_head.weight", "local_seg.0.weight", "local_seg.2.bias", "local_visual_align.weight", "global_text_align.bias",
            "local_logit_scale",
        ])
            Assert.Contains(name, names);
        Assert.DoesNotContain(names, n => n.Contains("k_proj.lora") || n.Contains("num_batches"));
    }

    /// <summary>The paper's 229.9 M, part by part as the reference counts them; ablation (e) adds BERT's two heads.</summary>
    [Fact]
    public void Trainable_parameters_at_full_size_are_the_papers()
    {
        var full = new ModelShape(new VisualConfig(), new LlmConfig(), new LoraConfig(), Base: BaseWeights.Nf4);
        using (var outline = PcrlModel.Outline(full))
        {
            var counts = outline.TrainedCounts(new LossConfig());
            Assert.Equal(
            [
                ("local_res", 167_792_640), ("local_visual_projector", 8_392_704), ("global_visual_projector", 25_174_016), ("local_seg", 16_781_313),
                ("local_visual_align", 2_097_664), ("local_text_align", 2_097_664), ("local_logit_scale", 1),
                ("global_visual_align", 2_097_664), ("global_text_align", 2_097_664), ("global_logit_scale", 1), ("LoRA", 3_407_872),
            ], counts.OrderBy(c => c.Part == "LoRA").ThenBy(c => Order.IndexOf(c.Part)));
            Assert.Equal(229_939_203, counts.Sum(c => c.Count));
        }
        using var withBert = PcrlModel.Outline(full with { Bert = new BertConfig() });
        Assert.Equal(230_726_659, withBert.TrainedCounts(new LossConfig { TextEncoder = "bert" }).Sum(c => c.Count));
    }

    private static readonly List<string> Order =
    [
        "local_res", "local_visual_projector", "global_visual_projector", "local_seg", "local_visual_align", "local_text_align", "local_logit_scale",
        "global_visual_align", "global_text_align", "global_logit_scale",
    ];

    [Fact]
    public void An_outline_has_the_names_and_shapes_of_the_model()
    {
        using var model = Create();
        using var outline = PcrlModel.Outline(Shape);
        Assert.Equal(model.named_parameters().Select(p => (p.name, string.Join(',', p.parameter.shape))),
            outline.named_parameters().Select(p => (p.name, string.Join(',', p.parameter.shape))));
        Assert.All(outline.parameters(), p => Assert.Equal(DeviceType.META, p.device_type));
        Assert.Equal(DeviceType.CPU, zeros(1).device_type);
    }

    [Theory]
    [InlineData("local+global", 48)]
    [InlineData("global", 24)]
    public void Visual_tokens_have_the_configured_count_and_order(string kind, long count)
    {
        using var scope = NewDisposeScope();
        using var model = Create(Shape with { Visual = Shape.Visual with { VisualTokens = kind } });
        model.eval();
        var features = model.Features(rand(2 * 24, 64, 64));
        var tokens = model.VisualTokens(features, 2);
        Assert.Equal([2, count, 16], tokens.shape);
        // The last row is the global token of the last slice: it depends on that slice alone.
        features.Pooled[47] = features.Pooled[47] + 1;
        var changed = (model.VisualTokens(features, 2) - tokens).abs().sum(2).gt(1e-6f);
        Assert.Equal(1, changed.sum().item<long>());
        Assert.True(changed[1, count - 1].item<bool>());
    }

    [Fact]
    public void The_loss_counts_the_findings_alone_and_ignores_padding()
    {
        using var scope = NewDisposeScope();
        using var model = Create();
        model.eval();
        var tokenizer = new Tokenizer(Data);
        var prompt = new Prompt(new PromptTemplate("<|begin_of_text|>[Img]", "[/Img][MRG]写。"), tokenizer);
        int[] longText = [5, 6, 7, 8, 9, Data.EosId], shortText = [10, 11, Data.EosId];
        var visual = randn(2, 48, 16);
        double both = prompt.Loss(model.Language, visual, [longText, shortText]).item<float>();
        double first = prompt.Loss(model.Language, visual[..1], [longText]).item<float>();
        double second = prompt.Loss(model.Language, visual[1..], [shortText]).item<float>();
        Assert.Equal((6 * first + 3 * second) / 9, both, 1e-4);
    }

    [Fact]
    public void Greedy_decoding_takes_the_likeliest_token_of_the_whole_forward_pass()
    {
        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        using var model = Create();
        model.eval();
        var prompt = randn(2, 7, 16);
        var texts = GreedyDecoder.Decode(model.Language, prompt, Data.EosId, 5);
        for (int row = 0; row < 2; row++)
        {
            var tokens = tensor(texts[row].Select(id => (long)id).ToArray()).unsqueeze(0);
            var whole = cat([prompt[row..(row + 1)], model.Language.Embed(tokens)], dim: 1);
            var best = model.Language.Logits(model.Language.Hidden(whole)).argmax(2)[0];
            for (int i = 0; i < texts[row].Count; i++)
                Assert.Equal(best[6 + i].item<long>(), texts[row][i]);
        }
    }

    [Fact]
    public void Adapters_start_as_nothing_and_merge_into_the_weight()
    {
        using var scope = NewDisposeScope();
        TorchDevice.Configure(threads: 1, seed: 4);
        var adapted = new LoraLinear(6, 5, new LoraConfig { R = 2, LoraAlpha = 4 });
        adapted.eval();
        var x = randn(3, 6);
        var plain = nn.functional.linear(x, adapted.get_parameter("weight")!);
        Assert.True(adapted.forward(x).allclose(plain));
        using (no_grad())
            adapted.get_parameter("lora_B.weight")!.normal_();
        Assert.False(adapted.forward(x).allclose(plain));
        Assert.True(adapted.forward(x).allclose(nn.functional.linear(x, adapted.Merged()), atol: 1e-5));
    }
}

/// <summary>Torch's threads and generator are global: its tests go one after the other.</summary>
[CollectionDefinition("torch", DisableParallelization = true)]
public class TorchCollection;
