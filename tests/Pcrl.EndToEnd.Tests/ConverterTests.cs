using System.Text.Json.Nodes;
using Pcrl.Convert;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Runtime.Vision;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Fitting;
using Pcrl.Train.Models;
using Pcrl.Train.Text;
using Pcrl.Train.Torch;
using Pcrl.Parity.Tests;
using static TorchSharp.torch;

namespace Pcrl.EndToEnd.Tests;

/// <summary>Checkpoint → bundle on models of random weights: the runtime must do what the trained model does.</summary>
[Collection("torch")]
public sealed class ConverterTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-convert-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static TrainedRun RandomRun(VisualConfig visual, LoraConfig lora)
    {
        TorchDevice.Configure(threads: 1, seed: 5);
        var config = new RunConfig
        {
            Name = "random",
            Visual = visual,
            Language = new LlmConfig { HiddenSize = 32, IntermediateSize = 64, NumHiddenLayers = 2, NumAttentionHeads = 4, NumKeyValueHeads = 2 },
            Lora = lora,
        };
        var tokenizer = new Tokenizer(BytePairTrainer.Train(["脑室系统未见扩大，中线结构居中。", config.Prompt.Tail], config.Tokenizer));
        var model = new PcrlModel(config.Shape(tokenizer.Data));
        using (no_grad())
        {
            // Fresh adapters and statistics are neutral and would hide a fault: move them.
            foreach (var (name, value) in Weights.Of(model))
            {
                if (name.Contains("lora_B"))
                    value.normal_(0, 0.05);
                else if (name.EndsWith("running_mean"))
                    value.normal_(0, 0.2);
                else if (name.EndsWith("running_var"))
                    value.uniform_(0.5, 2);
            }
        }
        model.eval();
        return new TrainedRun(config, tokenizer, model, new Prompt(config.Prompt, tokenizer));
    }

    public static IEnumerable<object[]> Shapes =>
    [
        [new VisualConfig { ImageSize = 64, Block = "basic", Depths = [1, 2], Width = 8, Grid = 4 }],
        [new VisualConfig { ImageSize = 64, Block = "bottleneck", Depths = [2, 1, 1], Width = 4, Grid = 2 }],
        [new VisualConfig { ImageSize = 64, Block = "basic", Depths = [1, 1], Width = 8, Grid = 4, VisualTokens = "global" }],
    ];

    [Theory]
    [MemberData(nameof(Shapes))]
    public void The_bundle_does_what_the_model_does(VisualConfig visual)
    {
        using var run = RandomRun(visual, new LoraConfig { TargetModules = ["q_proj", "v_proj", "down_proj"] });
        string bundle = Path.Combine(_folder, "bundle");
        var figures = BundleConverter.Convert(run, [], bundle, new ConversionOptions());
        Assert.InRange(figures.Visual!.Error, 0, 1e-4);
        Assert.InRange(figures.Logits.Error, 0, 1e-2);
        var manifest = Bundle.Open(bundle).Manifest;
        Assert.Equal(figures.Visual!.Error, manifest.Provenance["parity"]!["visual_token_error"]!.GetValue<double>());
        Assert.Equal([bundle], Directory.GetDirectories(_folder));
    }

    [Fact]
    public void A_weight_that_is_not_a_number_is_refused_by_name_and_leaves_nothing()
    {
        using var run = RandomRun((VisualConfig)Shapes.First()[0], new LoraConfig());
        using (no_grad())
            Weights.Of(run.Model).Single(w => w.Name == "trunk.layer1.0.conv2.weight").Value[0, 0, 0, 0] = float.NaN;
        var error = Assert.Throws<InputException>(() => BundleConverter.Convert(run, [], Path.Combine(_folder, "bundle"), new ConversionOptions()));
        Assert.Contains("trunk.layer1.0.conv2", error.Message);
        Assert.Empty(Directory.GetFileSystemEntries(_folder));
    }

    [Theory]
    [InlineData(0.1, 1, 0, 0, 1)]
    [InlineData(0, 0.99, 0, 0, 1)]
    [InlineData(0, 1, 1, 0, 1)]
    [InlineData(0, 1, 0, 0.1, 1)]
    [InlineData(0, 1, 0, 0, 0.99)]
    [InlineData(double.NaN, 1, 0, 0, 1)]
    [InlineData(0, 1, 0, double.NaN, 1)]
    public void A_bundle_that_parts_from_the_model_is_refused(double visual, double cosine, double logits, double divergence, double agreement) =>
        Assert.Throws<InputException>(() => new ParityFigures(
            LlmType.F32, new VisualFigures(visual, cosine), new LogitFigures(logits, divergence, agreement, 1)).ThrowIfApart("bundle"));

    [Theory]
    [InlineData(LlmType.F16, GgufType.F16)]
    [InlineData(LlmType.BF16, GgufType.BF16)]
    [InlineData(LlmType.Q8_0, GgufType.F32)]
    public void Smaller_types_pass_their_limits(LlmType language, GgufType visual)
    {
        using var run = RandomRun((VisualConfig)Shapes.First()[0], new LoraConfig());
        string bundle = Path.Combine(_folder, "bundle");
        var figures = BundleConverter.Convert(run, [], bundle, new ConversionOptions { LanguageType = language, VisualType = visual });
        Assert.InRange(figures.Visual!.Cosine, 0.9999, 1.0001);
        using var file = GgufFile.Open(Path.Combine(bundle, Bundle.VisualFile));
        Assert.Equal(visual, file.Tensor("trunk.conv1.weight").Type);
    }

    /// <summary>The authors' file as torch.save's names have it, the trunk under torchvision's, the LLM in Hugging Face's folder.</summary>
    [Theory]
    [InlineData(AdapterBase.Original, LlmType.F32)]
    [InlineData(AdapterBase.Nf4, LlmType.F16)]
    public void Parts_from_several_places_become_one_bundle(AdapterBase trainedOn, LlmType type)
    {
        using var run = RandomRun((VisualConfig)Shapes.ElementAt(1)[0], new LoraConfig());
        var language = SmallLlm.Wide with { HiddenSize = 32, IntermediateSize = 64, NumHiddenLayers = 2, NumAttentionHeads = 4, NumKeyValueHeads = 2 };
        string llm = SmallLlm.SaveHuggingFace(Path.Combine(_folder, "llm"), language), config = Path.Combine(_folder, "config.json");
        string authors = Path.Combine(_folder, "authors.pth"), trunk = Path.Combine(_folder, "resnet.pth");
        File.WriteAllText(config, run.Config.ToJson());
        var visual = Weights.Of(run.Model).Where(w => w.Name.StartsWith("local_") || w.Name.StartsWith("global_"));
        var adapter = Weights.Of(run.Model).Where(w => w.Name.Contains(".lora_"))
            .Select(w => (w.Name.Replace("language_model.", "language_model.base_model.model.").Replace(".weight", ".default.weight"), w.Value));
        Weights.Save(authors, visual.Concat(adapter));
        Weights.Save(trunk, Weights.Of(run.Model).Where(w => w.Name.StartsWith("trunk.")).Select(w => ("visual_extractor." + w.Name["trunk.".Length..], w.Value)));

        string bundle = Path.Combine(_folder, "bundle");
        using var parts = ModelParts.Open(authors, config, llm, trunk);
        var figures = BundleConverter.Convert(parts, [], bundle, new ConversionOptions { TrainedOn = trainedOn, LanguageType = type });
        Assert.InRange(figures.Visual!.Error, 0, 1e-4);
        Assert.Equal(figures.Logits.Divergence, Bundle.Open(bundle).Manifest.Provenance["parity"]!["logit_divergence"]!.GetValue<double>());
        Assert.Contains("name its configuration", Assert.Throws<InputException>(() => ModelParts.Open(authors, null, llm, trunk)).Message);

        string other = Path.Combine(_folder, "other.pth");
        Weights.Save(other, visual.Concat(adapter).Select(w => (w.Item1.Replace("local_res.0", "local_res.7"), w.Item2)));
        string message = Assert.Throws<InputException>(() => ModelParts.Open(other, config, llm, trunk)).Message;
        Assert.Matches("other.pth: 1[0-9] of [0-9]+ weights are missing: local_res.0.[^;]* and [0-9]+ more; [0-9]+ are left over: local_res.7.", message);
        Assert.DoesNotContain('\n', message);
        Weights.Save(other, visual.Concat(adapter).Append(("local_res.2.conv1.weight", visual.First().Value)));
        Assert.Contains("1 are left over: local_res.2.conv1.weight", Assert.Throws<InputException>(() => ModelParts.Open(other, config, llm, trunk)).Message);
        Assert.Contains("weights are missing", Assert.Throws<InputException>(() => ModelParts.Open(authors, config, llm, null)).Message);
    }

    [Fact]
    public void An_older_bundle_is_replaced_whole()
    {
        using var run = RandomRun((VisualConfig)Shapes.First()[0], new LoraConfig());
        string bundle = Path.Combine(_folder, "bundle");
        BundleConverter.Convert(run, new JsonObject { ["try"] = 1 }, bundle, new ConversionOptions());
        BundleConverter.Convert(run, new JsonObject { ["try"] = 2 }, bundle, new ConversionOptions());
        Assert.Equal(2, Bundle.Open(bundle).Manifest.Provenance["try"]!.GetValue<int>());
        Assert.Equal([bundle], Directory.GetFileSystemEntries(_folder));

        File.Delete(Path.Combine(bundle, "pcrl.json")); // now it is a folder of somebody's
        var error = Assert.Throws<InputException>(() => BundleConverter.Convert(run, [], bundle, new ConversionOptions()));
        Assert.Contains("is no bundle", error.Message);
        Assert.NotEmpty(Directory.GetFiles(bundle));
    }
}

/// <summary>Torch computes while nothing else runs: TorchSharp leaves numbers to the finalizer while libtorch reads them (Torch/Workers.cs).</summary>
[CollectionDefinition("torch", DisableParallelization = true)]
public class TorchCollection;
