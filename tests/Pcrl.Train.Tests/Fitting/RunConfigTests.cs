using Pcrl.Runtime;
using Pcrl.Train.Fitting;

namespace Pcrl.Train.Tests.Fitting;

public class RunConfigTests
{
    [Fact]
    public void Keys_left_out_have_the_papers_values()
    {
        var config = Load("""{ "name": "x", "visual": { "image_size": 96 } }""");
        Assert.Equal(96, config.Visual.ImageSize);
        Assert.Equal([3, 4, 23, 3], config.Visual.Depths);
        Assert.Equal(4096, config.Language.HiddenSize);
        Assert.Equal(8, config.Lora.R);
        Assert.Equal(32, config.Lora.LoraAlpha);
    }

    [Theory]
    [InlineData("""{ "nmae": "x" }""", "there is no key nmae")]
    [InlineData("""{ "visual": { "imagesize": 96 } }""", "there is no key imagesize")]
    [InlineData("""{ "seed": "one" }""", "seed is not a whole number")]
    [InlineData("""{ "joint_fit": { "learning_rate": "high" } }""", "joint_fit.learning_rate is not a number")]
    [InlineData("""{ "lora": { "target_modules": "q_proj" } }""", "lora.target_modules is not a list")]
    [InlineData("""{ "language_base": "int3" }""", "language_base is not what belongs there")]
    [InlineData("""{ "visual": null }""", "visual is null")]
    [InlineData("""{ "prompt": { "head": "x" } }""", "prompt lacks 'tail'")]
    [InlineData("""{ "seed": 1, "seed": 2 }""", "seed")]
    [InlineData("{\n\"seed\": 1,,\n}", "line 2: ")]
    [InlineData("[]", "a JSON object")]
    [InlineData("""{ "seed": 1""", "configuration")]
    public void What_does_not_belong_is_refused_by_name(string json, string named)
    {
        var error = Assert.Throws<InputException>(() => Load(json));
        Assert.Contains(named, error.Message);
        Assert.DoesNotContain('\n', error.Message);
        foreach (string internals in (string[])["System.", "Pcrl.Train", ".NET", "BytePosition"])
            Assert.DoesNotContain(internals, error.Message);
    }

    [Fact]
    public void The_mark_that_some_editors_put_before_the_text_does_no_harm() => Assert.Equal("x", Load("\uFEFF" + """{ "name": "x" }""").Name);

    [Fact]
    public void Overrides_reach_every_level()
    {
        var config = Load("{}", "--seed=9", "--trunk-fit.learning-rate=0.5", "name=other", "--visual.depths=[1,2]");
        Assert.Equal(9, config.Seed);
        Assert.Equal(0.5, config.TrunkFit.LearningRate);
        Assert.Equal("other", config.Name);
        Assert.Equal([1, 2], config.Visual.Depths);
    }

    [Theory]
    [InlineData("--sed=9")]
    [InlineData("--visual.nothing=1")]
    [InlineData("--seed.deeper=1")]
    [InlineData("--seed")]
    [InlineData("--seed=many")]
    public void Wrong_overrides_are_refused(string wrong) =>
        Assert.Contains(wrong, Assert.Throws<InputException>(() => Load("{}", wrong)).Message);

    [Theory]
    [InlineData("--visual.grid=5", "--loss.segmentation=1", "grid")]
    [InlineData("--language.num_attention_heads=3", "--seed=1", "heads")]
    [InlineData("--joint_fit.batch=2", "--loss.theme=1", "L_CLt")]
    [InlineData("--joint_fit.patience=3", "--seed=1", "validation")]
    [InlineData("--joint_fit.schedule=linear", "--seed=1", "schedule")]
    [InlineData("--joint_fit.scan_weight=0", "--seed=1", "scan_weight")]
    [InlineData("--loss.text_encoder=bert", "--seed=1", "neither entity nor theme")]
    [InlineData("--loss={\"report\":0,\"entity\":1,\"text_gradient\":false}", "--seed=1", "the adapters")]
    [InlineData("--data.source=ctrg", "--seed=1", "path")]
    [InlineData("--data.source=pictures", "--seed=1", "pictures")]
    [InlineData("--trunk_fit.cells=true", "--trunk_fit.places=false", "cells teach places")]
    [InlineData("--scan_fit.painted=-1", "--seed=1", "painted")]
    [InlineData("--scan_fit.view_augmentation=-1", "--seed=1", "view_augmentation")]
    [InlineData("--language.num_attention_heads=0", "--seed=1", "num_attention_heads is 0")]
    [InlineData("--language.num_key_value_heads=0", "--seed=1", "num_key_value_heads is 0")]
    [InlineData("--language.hidden_size=-128", "--seed=1", "hidden_size is -128")]
    [InlineData("--language.rope_theta=0", "--seed=1", "rope_theta")]
    [InlineData("--visual.image_size=0", "--seed=1", "visual.image_size")]
    [InlineData("--visual.depths=[]", "--seed=1", "visual.depths")]
    [InlineData("--visual.block=huge", "--seed=1", "visual.block")]
    [InlineData("--visual.std=[0,0,0]", "--seed=1", "visual.mean and std")]
    [InlineData("--lora.r=0", "--seed=1", "lora: r is 0")]
    [InlineData("--lora.target_modules=[null]", "--seed=1", "lora: target_modules")]
    [InlineData("--lora.target_modules=[\"nope\"]", "--seed=1", "lora: target_modules")]
    [InlineData("--lora.lora_alpha=1e999", "--seed=1", "a number that is too large")]
    [InlineData("--language_fit.learning_rate=-1", "--seed=1", "language_fit: learning_rate")]
    [InlineData("--joint_fit.clip_norm=0", "--seed=1", "joint_fit: clip_norm")]
    [InlineData("--trunk_fit.augmentation=-1", "--seed=1", "trunk_fit: augmentation")]
    [InlineData("--context_length=100000", "--seed=1", "context_length is 100000")]
    [InlineData("--name=../elsewhere", "--seed=1", "name is '../elsewhere'")]
    [InlineData("--scan_fit.views=-1", "--seed=1", "views")]
    [InlineData("--loss.report=-1", "--seed=1", "report")]
    [InlineData("--phantoms.held_out_seed=1001999", "--seed=1", "the seeds of training and held_out meet")]
    [InlineData("--phantoms.validation_seed=999999", "--phantoms.validation=2", "the seeds of training and validation meet")]
    [InlineData("--phantoms.validation_seed=900000299", "--phantoms.validation=2", "the seeds of validation and held_out meet")]
    [InlineData("--tokenizer.tokens=255", "--seed=1", "tokenizer: tokens is 255")]
    [InlineData("--tokenizer.longest_token=0", "--seed=1", "tokenizer: longest_token")]
    [InlineData("--tokenizer.special_tokens=[]", "--seed=1", "tokenizer: special_tokens lack")]
    public void What_cannot_go_together_is_refused(string first, string second, string named) =>
        Assert.Contains(named, Assert.Throws<InputException>(() => Load("{}", first, second)).Message);

    [Theory]
    [InlineData("--bert.hidden_size=7", "bert: 12 attention heads")]
    [InlineData("--bert.num_hidden_layers=-1", "bert: num_hidden_layers is -1")]
    [InlineData("--bert.vocab_size=1000", "bert.vocab_size is 1000, fewer than the tokenizer's 1205")]
    [InlineData("--loss.text_tokens=513", "bert has positions for 512")]
    public void An_impossible_BERT_is_refused_where_it_reads(string wrong, string named)
    {
        Assert.Contains(named, Assert.Throws<InputException>(() => Load("{}", "--loss.theme=1", "--loss.text_encoder=bert", wrong)).Message);
        Load("{}", wrong);
    }

    [Fact]
    public void A_configuration_replaces_values_of_its_base()
    {
        string folder = Directory.CreateTempSubdirectory("pcrl-config-").FullName;
        try
        {
            string Write(string name, string json)
            {
                File.WriteAllText(Path.Combine(folder, name), json);
                return Path.Combine(folder, name);
            }
            Write("base.json", """{ "name": "base", "seed": 5, "visual": { "image_size": 96, "width": 8 } }""");
            var config = RunConfig.Load(Write("own.json", """{ "base": "base.json", "name": "own", "visual": { "width": 16 } }"""), []);
            Assert.Equal(("own", 5, 96, 16), (config.Name, config.Seed, config.Visual.ImageSize, config.Visual.Width));
            Assert.Contains("round.json", Assert.Throws<InputException>(() => RunConfig.Load(Write("round.json", """{ "base": "round.json" }"""), [])).Message);
            Assert.Contains("gone.json", Assert.Throws<InputException>(() => RunConfig.Load(Write("lost.json", """{ "base": "gone.json" }"""), [])).Message);
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Theory]
    [InlineData("mini")]
    [InlineData("characters")]
    [InlineData("full")]
    public void Every_configuration_that_is_shipped_loads(string name)
    {
        string? root = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(root!, "Pcrl.sln")))
            root = Path.GetDirectoryName(root);
        Assert.Equal(name, RunConfig.Load(Path.Combine(root!, "configs", name + ".json"), []).Name);
    }

    [Fact]
    public void Every_row_of_the_ablation_loads_and_differs_in_its_losses_alone()
    {
        string? root = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(root!, "Pcrl.sln")))
            root = Path.GetDirectoryName(root);
        RunConfig[] rows = [.. new[] { "baseline", "a", "b", "c", "d", "e", "ours" }
            .Select(row => RunConfig.Load(Path.Combine(root!, "configs", "ablation", row + ".json"), []))];
        _ = new Ablation(rows, [1], "unused");
        Assert.Equal(
            [(false, false, false), (true, false, false), (false, true, false), (true, true, false), (false, true, true), (true, true, true), (true, true, true)],
            rows.Select(r => (r.Loss.Segmentation > 0, r.Loss.Entity > 0, r.Loss.Theme > 0)));
        Assert.Equal("bert", rows[5].Loss.TextEncoder);
        Assert.Contains("more than its losses",
            Assert.Throws<InputException>(() => new Ablation([rows[0], rows[1] with { Seed = 9 }], [1], "unused")).Message);
    }

    private static RunConfig Load(string json, params string[] overrides)
    {
        string path = Path.GetTempFileName();
        try
        {
            File.WriteAllText(path, json);
            return RunConfig.Load(path, overrides);
        }
        finally
        {
            File.Delete(path);
        }
    }
}
