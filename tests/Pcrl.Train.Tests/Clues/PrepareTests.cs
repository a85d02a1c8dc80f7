using System.Text.RegularExpressions;
using Microsoft.ML.Tokenizers;
using Pcrl.Runtime;
using Pcrl.Runtime.Studies;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Clues;
using Pcrl.Train.Data;
using Pcrl.Train.Fitting;
using Pcrl.Train.Models.Clip;
using Pcrl.Train.Models.Sam;
using Pcrl.Train.Torch;
using TorchSharp;

namespace Pcrl.Train.Tests.Clues;

/// <summary>The way of a study to its clues, with untrained models of a few weights: what is tested is the way, not the masks.</summary>
[Collection("torch")]
public sealed class PrepareTests : IDisposable
{
    private const int Size = 32;
    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-prepare-").FullName;
    private readonly SamModel _sam;
    private readonly ImageTextScorer _scorer;

    public PrepareTests()
    {
        TorchDevice.Configure(1, 1);
        _sam = new SamModel(new SamConfig
        {
            ImageSize = Size, PatchSize = 4, EmbedDim = 16, Depth = 2, NumHeads = 2, MlpRatio = 2, WindowSize = 2, GlobalAttnIndexes = [1],
            PromptEmbedDim = 32, MaskInChans = 8, DecoderMlpDim = 16, DecoderHeads = 2, IouHidden = 16,
        });
        var config = new MedClipConfig
        {
            ProjDim = 8, Bert = new BertConfig { VocabSize = 16, HiddenSize = 64, NumHiddenLayers = 2, NumAttentionHeads = 1, IntermediateSize = 16, MaxPositionEmbeddings = 96 },
            Swin = new SwinConfig { EmbedDim = 32, Depths = [1, 1], NumHeads = [1, 2], WindowSize = 7 },
        };
        File.WriteAllLines(Path.Combine(_folder, "vocab.txt"), ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "ct", "image", "contain", "lobe", "brain", "##s"]);
        using var model = new MedClip(config);
        Weights.Save(Path.Combine(_folder, "model.safetensors"), Weights.Of(model));
        _scorer = ImageTextScorer.Open(_folder); // what was written is read by shapes alone
    }

    public void Dispose()
    {
        _sam.Dispose();
        _scorer.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    private sealed class Silent : IProgress<StageProgress>
    {
        public void Report(StageProgress value)
        {
        }
    }

    private ClueMaker Maker(string fingerprint = "models", int workers = 2) => new(_sam,
        new SamGeneratorConfig { PointsPerSide = 1, PredIouThresh = 0, StabilityScoreThresh = 0, BoxNmsThresh = 0.9 }, _scorer, ClueVocabulary.Default, fingerprint, workers);

    private static ClueStudy Study(string findings)
    {
        var random = new Random(1);
        var slices = new byte[SliceSelector.Count * Size * Size];
        random.NextBytes(slices);
        return new ClueStudy("study-1", Size, slices, findings);
    }

    private (int Made, int Skipped) Run(string findings, string fingerprint = "models", CancellationToken cancellation = default)
    {
        using var maker = Maker(fingerprint);
        return PrepareRun.Run(new ClueDataset(["study-1"], (_, _, _) => Study(findings)), maker, Size, Path.Combine(_folder, "out"), new Silent(), cancellation);
    }

    [Fact]
    public void Clues_are_made_once_and_again_when_anything_changes()
    {
        Assert.Equal((1, 0), Run("双侧额叶低密度影。"));
        Assert.Equal((0, 1), Run("双侧额叶低密度影。"));
        Assert.Equal((1, 0), Run("双侧颞叶低密度影。"));
        Assert.Equal((1, 0), Run("双侧颞叶低密度影。", "other models"));
        string file = PrepareRun.FileOf(Path.Combine(_folder, "out"), "study-1");
        File.WriteAllText(file, File.ReadAllText(file)[..100]);
        Assert.Equal((1, 0), Run("双侧颞叶低密度影。", "other models"));
        Assert.Empty(Directory.GetFiles(Path.Combine(_folder, "out"), "*.tmp*"));
    }

    [Fact]
    public void An_interrupted_run_leaves_nothing_behind()
    {
        using var stop = new CancellationTokenSource();
        stop.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(() => Run("额叶。", cancellation: stop.Token));
        Assert.Empty(Directory.GetFiles(Path.Combine(_folder, "out")));
    }

    [Fact]
    public void Entities_get_a_mask_of_their_own_layers()
    {
        using var one = Maker(workers: 1);
        using var two = Maker(workers: 3);
        var study = Study("双侧额叶低密度影，第四脑室受压；脑沟增宽。");
        var clues = one.Make(study);
        Assert.Equal(3, clues.Entities.Count);
        foreach (var entity in clues.Entities.Where(e => e.Slice >= 0))
        {
            Assert.Contains(entity.Slice / 3, ClueVocabulary.Default.LayersOf(entity.Entity));
            Assert.InRange(entity.Mask, 0, clues.Galleries[entity.Slice].Count - 1);
        }
        string file = Path.Combine(_folder, "clues.json"), again = Path.Combine(_folder, "again.json");
        clues.Save(file);
        two.Make(study).Save(again);
        Assert.Equal(File.ReadAllText(file), File.ReadAllText(again));
        var read = StudyClues.Load(file);
        Assert.Equal(clues.Theme, read.Theme);
        Assert.Equal(clues.Entities, read.Entities);
        foreach (var slice in read.Slices())
        {
            int largest = read.Entities.Where(e => e.Slice == slice.Slice).Max(e => read.Mask(e.Slice, e.Mask).Area);
            Assert.True(slice.Mask.Area >= largest);
            Assert.NotEmpty(slice.Text);
        }
        CluePictures.Write(study, clues, Path.Combine(_folder, "pictures"));
        string html = File.ReadAllText(Path.Combine(_folder, "pictures", "study-1.report.html"));
        Assert.Contains("额叶</b>", html);
        Assert.DoesNotMatch(new Regex("(src|href)=\"(?!data:)"), html);
    }

    [Fact]
    public void Empty_findings_give_a_gallery_and_no_entities()
    {
        using var maker = Maker();
        var clues = maker.Make(Study(""));
        Assert.Empty(clues.Entities);
        Assert.Empty(clues.Slices());
        Assert.Equal("", clues.Theme);
    }

    [Fact]
    public void Slices_of_another_size_are_set_aside_and_too_few_are_refused()
    {
        string study = Path.Combine(_folder, "pictures-in");
        Directory.CreateDirectory(study);
        void Picture(string name, int side)
        {
            using var bitmap = new SkiaSharp.SKBitmap(side, side, SkiaSharp.SKColorType.Gray8, SkiaSharp.SKAlphaType.Opaque);
            bitmap.Erase(SkiaSharp.SKColors.Gray);
            File.WriteAllBytes(Path.Combine(study, name), bitmap.Encode(SkiaSharp.SKEncodedImageFormat.Png, 100).ToArray());
        }
        for (int i = 0; i < SliceSelector.Count; i++)
            Picture($"{i:00}.png", 48);
        Picture("99.png", 40);
        Assert.Equal(SliceSelector.Count * Size * Size, ClueStudy.Read("x", study, "", Size, default).Slices.Length);
        for (int i = 0; i < SliceSelector.Count; i++)
            Picture($"{i:00}.png", 48 + i);
        string message = Assert.Throws<InputException>(() => ClueStudy.Read("x", study, "", Size, default)).Message;
        Assert.Contains("pictures-in", message);
        Assert.DoesNotContain('\n', message);
    }

    [Theory]
    [InlineData("a", true)]
    [InlineData("a\n", false)]
    [InlineData("../a", false)]
    public void An_id_is_a_file_name(string id, bool isSafe) => Assert.Equal(isSafe, ClueDataset.IsSafeId(id));

    [Fact]
    public void Two_entities_on_a_slice_are_merged_and_one_without_a_mask_is_left_out()
    {
        string left = RunLengthMask.Encode([true, false, true, false], 2, 2).ToText(), right = RunLengthMask.Encode([false, true, false, false], 2, 2).ToText();
        var galleries = Enumerable.Range(0, SliceSelector.Count).Select(s => (IReadOnlyList<ClueMask>)(s == 4 ? [new(left, 1, 1), new(right, 1, 1)] : [])).ToArray();
        var clues = new StudyClues
        {
            Id = "x", Content = "", ImageSize = 2, Theme = "", Galleries = galleries,
            Entities = [new("额叶", "甲；乙", 4, 0, 0), new("颞叶", "乙；丙", 4, 1, 0), new("中脑", "丁", -1, -1, 0)],
        };
        var slice = Assert.Single(clues.Slices());
        Assert.Equal("甲；乙；丙", slice.Text);
        Assert.Equal([true, true, true, false], slice.Mask.Decode());
        string file = Path.Combine(_folder, "bad.json");
        (clues with { Entities = [new("额叶", "甲", 4, 2, 0)] }).Save(file);
        Assert.Throws<InputException>(() => StudyClues.Load(file));
    }

    [Fact]
    public void Another_architecture_is_told_by_what_is_missing_and_left_over()
    {
        string file = Path.Combine(_folder, "sam.safetensors");
        Weights.Save(file, Weights.Of(_sam).Where(w => w.Name != "mask_decoder.iou_token.weight" && w.Name != "prompt_encoder.no_mask_embed.weight"));
        Assert.Contains("mask_decoder.iou_token.weight", Assert.Throws<InputException>(() => SamModel.Open(file)).Message);
        var named = Weights.Of(_sam).ToList();
        Weights.Save(file, [.. named.Where(w => w.Name != "prompt_encoder.no_mask_embed.weight"), ("stranger.weight", named[0].Value)]);
        string message = Assert.Throws<InputException>(() => SamModel.Open(file)).Message;
        Assert.Contains("1 of", message);
        Assert.Contains("prompt_encoder.no_mask_embed.weight", message);
        Assert.Contains("left over: stranger.weight", message);
        Assert.Throws<InputException>(() => ImageTextScorer.Open(file));
    }

    [Fact]
    public void Data_sets_are_checked()
    {
        string file = Path.Combine(_folder, "dataset.json");
        foreach (string text in new[]
        {
            "[]", "{}", "[{\"id\":\"../x\",\"study\":\"a\",\"findings\":\"\"}]", "[{\"id\":\"x\",\"study\":\"a\"}]", "[null]", "[{",
            "[{\"id\":\"x\",\"study\":\"a\",\"findings\":\"\"},{\"id\":\"x\",\"study\":\"a\",\"findings\":\"\"}]",
        })
        {
            File.WriteAllText(file, text);
            Assert.Throws<InputException>(() => ClueDataset.Find(file, new PhantomOptions()));
        }
        File.WriteAllText(file, "[{\"id\":\"x\",\"study\":\"missing\",\"findings\":\"\"}]");
        Assert.Throws<InputException>(() => ClueDataset.Find(_folder, new PhantomOptions()).Open(0, Size, default));
        Assert.Throws<InputException>(() => ClueDataset.Find("phantoms:x", new PhantomOptions()));
        Assert.Equal(2, ClueDataset.Find("phantoms:2@7", new PhantomOptions()).Ids.Count);
    }

    [Fact]
    public void Small_models_are_trained_and_opened_again()
    {
        var config = new MiniCluesConfig
        {
            ImageSize = Size, Phantoms = 1, Phantom = new PhantomOptions { ImageSize = 64 }, Sam = _sam.Config, Points = 2,
            OrganFit = new FitConfig { Steps = 2, Batch = 2 }, PointFit = new FitConfig { Steps = 2, Batch = 2 }, ClipFit = new FitConfig { Steps = 2, Batch = 1 },
            Clip = new ClipConfig
            {
                ImageSize = 16, PatchSize = 8, VisionWidth = 64, VisionLayers = 1, VisionHeads = 1, VocabSize = 258, ContextLength = 64,
                TextWidth = 64, TextLayers = 1, TextHeads = 1, ProjectionDim = 8,
            },
        };
        string folder = Path.Combine(_folder, "mini");
        MiniClues.Train(folder, config, new Silent(), default);
        using var sam = SamModel.Open(MiniClues.SamFile(folder));
        Assert.Equal(config.Sam with { DecoderHeads = 8, GlobalAttnIndexes = sam.Config.GlobalAttnIndexes, PixelMean = sam.Config.PixelMean, PixelStd = sam.Config.PixelStd }, sam.Config);
        Assert.Equal(config.Sam.GlobalAttnIndexes, sam.Config.GlobalAttnIndexes);
        using var scorer = ImageTextScorer.Open(MiniClues.ClipFolder(folder));
        using var texts = scorer.Texts(["A CT image contain Thalamus", "A CT image contain Cerebellum"]);
        Assert.Equal([2, 8], texts.shape);
        float[,] scores = scorer.Scores([new byte[Size * Size]], texts);
        Assert.NotEqual(scores[0, 0], scores[0, 1]);
        var truth = PhantomClueStudy.Create(7, config.Phantom, Size);
        Assert.Contains(truth.Things(4, 20), t => t.Organ == PhantomOrgan.Bone);
        using var maker = new ClueMaker(sam, new SamGeneratorConfig { PointsPerSide = 1, PredIouThresh = 0, StabilityScoreThresh = 0 }, scorer, ClueVocabulary.Default, "", 1);
        var report = ClueReport.Measure(maker, 7, 1, config.Phantom, Size, new Silent(), default);
        Assert.InRange(report.MeanBestIou, 0, 1);
        Assert.True(report.Things > 20);
    }

    /// <summary>The same model under OpenAI's names, packed as theirs are, says the same.</summary>
    [Fact]
    public void CLIP_opens_under_both_names()
    {
        string folder = Path.Combine(_folder, "clip"), theirs = Path.Combine(_folder, "openai");
        Directory.CreateDirectory(folder);
        Directory.CreateDirectory(theirs);
        var config = new ClipConfig
        {
            ImageSize = 16, PatchSize = 8, VisionWidth = 64, VisionLayers = 2, VisionHeads = 1, VocabSize = 258, ContextLength = 40, TextWidth = 64, TextLayers = 1,
            TextHeads = 1, ProjectionDim = 8,
        };
        using var model = new ClipModel(config);
        var ours = Weights.Of(model).ToDictionary(w => w.Name, w => w.Value);
        Weights.Save(Path.Combine(folder, "model.safetensors"), Weights.Of(model));
        MiniClues.WriteVocabulary(folder);
        MiniClues.WriteVocabulary(theirs);
        var packed = new List<(string, torch.Tensor)>
        {
            ("visual.class_embedding", ours["vision_model.embeddings.class_embedding"]), ("visual.conv1.weight", ours["vision_model.embeddings.patch_embedding.weight"]),
            ("visual.positional_embedding", ours["vision_model.embeddings.position_embedding.weight"]), ("visual.proj", ours["visual_projection.weight"].t()),
            ("token_embedding.weight", ours["text_model.embeddings.token_embedding.weight"]), ("logit_scale", ours["logit_scale"]),
            ("positional_embedding", ours["text_model.embeddings.position_embedding.weight"]), ("text_projection", ours["text_projection.weight"].t()),
        };
        foreach (string kind in new[] { "weight", "bias" })
        {
            packed.Add(($"visual.ln_pre.{kind}", ours[$"vision_model.pre_layrnorm.{kind}"]));
            packed.Add(($"visual.ln_post.{kind}", ours[$"vision_model.post_layernorm.{kind}"]));
            packed.Add(($"ln_final.{kind}", ours[$"text_model.final_layer_norm.{kind}"]));
            foreach (var (from, to) in new[] { ("vision_model.encoder.layers.0.", "visual.transformer.resblocks.0."), ("vision_model.encoder.layers.1.", "visual.transformer.resblocks.1."), ("text_model.encoder.layers.0.", "transformer.resblocks.0.") })
            {
                packed.Add(($"{to}attn.in_proj_{kind}", torch.cat([.. "qkv".Select(p => ours[$"{from}self_attn.{p}_proj.{kind}"])])));
                packed.Add(($"{to}attn.out_proj.{kind}", ours[$"{from}self_attn.out_proj.{kind}"]));
                packed.Add(($"{to}ln_1.{kind}", ours[$"{from}layer_norm1.{kind}"]));
                packed.Add(($"{to}ln_2.{kind}", ours[$"{from}layer_norm2.{kind}"]));
                packed.Add(($"{to}mlp.c_fc.{kind}", ours[$"{from}mlp.fc1.{kind}"]));
                packed.Add(($"{to}mlp.c_proj.{kind}", ours[$"{from}mlp.fc2.{kind}"]));
            }
        }
        string file = Path.Combine(theirs, "model.safetensors");
        Weights.Save(file, packed);
        float[,] Scores(string from)
        {
            using var scorer = ImageTextScorer.Open(from);
            using var texts = scorer.Texts(["A CT image contain Thalamus"]);
            return scorer.Scores([[.. Enumerable.Range(0, Size * Size).Select(i => (byte)i)]], texts);
        }
        Assert.Equal(Scores(folder), Scores(theirs));
        Weights.Save(file, [.. packed.Where(p => p.Item1 != "ln_final.bias"), ("visual.stranger", ours["logit_scale"])]);
        string message = Assert.Throws<InputException>(() => ImageTextScorer.Open(theirs)).Message;
        Assert.Contains("ln_final.bias", message);
        Assert.Contains("visual.stranger", message);
    }

    [Fact]
    public void Word_pieces_are_BERTs()
    {
        BertTokenizer tokenizer = MedClipScorer.ReadVocabulary(Path.Combine(_folder, "vocab.txt"));
        Assert.Equal([2, 5, 6, 7, 8, 9, 11, 1, 3], tokenizer.EncodeToIds("A CT image contain LOBEs thalamus"));
        Assert.Throws<InputException>(() => MedClipScorer.ReadVocabulary(Path.Combine(_folder, "none.txt")));
    }
}
