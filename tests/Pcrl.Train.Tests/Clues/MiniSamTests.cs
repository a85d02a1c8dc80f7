using Pcrl.Train.Clues;
using Pcrl.Train.Data;
using Pcrl.Train.Fitting;
using Pcrl.Train.Models.Sam;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Tests.Clues;

/// <summary>What the small segmenter's training needs of the decoder beside the masks of one picture's prompts.</summary>
[Collection("torch")]
public sealed class MiniSamTests : IDisposable
{
    private readonly SamModel _sam;

    public MiniSamTests()
    {
        TorchDevice.Configure(1, 1);
        _sam = new SamModel(new SamConfig
        {
            ImageSize = 16, PatchSize = 4, EmbedDim = 16, Depth = 1, NumHeads = 2, MlpRatio = 2, WindowSize = 2, GlobalAttnIndexes = [0],
            PromptEmbedDim = 32, MaskInChans = 8, DecoderMlpDim = 16, DecoderHeads = 2, IouHidden = 16,
        });
        _sam.eval();
    }

    public void Dispose() => _sam.Dispose();

    [Fact]
    public void Pictures_go_into_the_order_of_the_channels_and_back()
    {
        using var scope = NewDisposeScope();
        var pictures = arange(2 * 3 * 64).view(2, 3, 8, 8);
        Assert.True(pictures.equal(SamMaskDecoder.Assemble(SamMaskDecoder.Take(pictures.flatten(0, 1)).view(2, 3, 64))).all().item<bool>());
    }

    /// <summary>Prompts of several pictures in one go give what they give picture by picture.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void Pictures_are_decoded_together(bool patchesLearn)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        const int pictures = 2, each = 3;
        var embedding = _sam.ImageEncoder.forward(randn(pictures, 3, 16, 16));
        var positions = _sam.PromptEncoder.DensePositions();
        var points = rand(pictures * each, 1, 2) * 16;
        (Tensor Tokens, Tensor Patches) Attend(Tensor image, Tensor at)
        {
            var (sparse, dense) = _sam.PromptEncoder.Forward(new SamPrompts(at, ones(at.shape[0], 1, dtype: int32)));
            return _sam.MaskDecoder.Attend(image, positions, sparse, dense, patchesLearn);
        }
        var (tokens, patches) = Attend(embedding, points);
        if (!patchesLearn)
        {
            var (_, dense) = _sam.PromptEncoder.Forward(new SamPrompts(points, ones(points.shape[0], 1, dtype: int32)));
            Assert.True(_sam.MaskDecoder.Unprompted(embedding, dense.narrow(0, 0, 1)).allclose(patches));
        }
        Assert.Equal([patchesLearn ? pictures * each : pictures, 16, 32], patches.shape);
        for (int i = 0; i < pictures; i++)
        {
            var alone = Attend(embedding.narrow(0, i, 1), points.narrow(0, i * each, each));
            long many = alone.Patches.shape[0];
            Assert.True(alone.Tokens.allclose(tokens.narrow(0, i * each, each), 1e-4, 1e-5));
            Assert.True(alone.Patches.allclose(patches.narrow(0, i * many, many), 1e-4, 1e-5));
        }
        Assert.False(tokens[0].allclose(tokens[each], 1e-2, 1e-2)); // or the comparison would say nothing
    }

    /// <summary>
    /// From few steps on one phantom come masks far better than those of the first weights, and the opinions of them that sort them; points that choose the same
    /// organ give one mask, not many that differ by a pixel.
    /// </summary>
    [Fact]
    public void Masks_are_learned()
    {
        const int size = 32;
        var config = new MiniCluesConfig
        {
            ImageSize = size, Phantoms = 1, Phantom = new PhantomOptions { ImageSize = 64, Difficulty = 0 }, Points = 24,
            Sam = new SamConfig
            {
                ImageSize = size, PatchSize = 4, EmbedDim = 48, Depth = 2, NumHeads = 2, MlpRatio = 2, WindowSize = 4, GlobalAttnIndexes = [1],
                PromptEmbedDim = 96, MaskInChans = 8, DecoderMlpDim = 96, DecoderHeads = 8, IouHidden = 32,
            },
            OrganFit = new FitConfig { Steps = 250, Batch = 4, LearningRate = 4e-3, WarmUp = 0.05 }, PointFit = new FitConfig { Steps = 250, Batch = 2, LearningRate = 3e-3, WarmUp = 0.05 },
        };
        var truth = MiniClues.MakePhantoms(config, new Silent(), default);
        var slices = MiniClues.Slices(truth[0], config);
        (double Iou, double Distinct) Look(SamModel sam)
        {
            const double all = 2; // of boxes none overlap by as much
            var generator = new SamMaskGenerator(sam, config.Generator with { PointsPerSide = 8, BoxNmsThresh = all });
            List<double> best = [], distinct = [];
            for (int s = 4; s < 12; s++)
            {
                byte[] colour = [.. truth[0].Study.Slice(s).ToArray().SelectMany(v => new[] { v, v, v })];
                var masks = generator.Generate(colour, size, size);
                best.AddRange(truth[0].Organs(s, 20).Select(o => masks.Select(m => MaskGeometry.Iou(m.Mask.Decode(), o.Mask)).DefaultIfEmpty(0).Max()));
                distinct.Add(masks.Select(m => m.Mask.ToText()).Distinct().Count() / Math.Max(1.0, masks.Count));
            }
            return (best.Average(), distinct.Average());
        }
        using var workers = new Workers(1);
        workers.Seed(1);
        using var sam = new SamModel(config.Sam);
        sam.eval();
        var before = Look(sam);
        MiniSam.Fit(sam, slices, config with { Workers = 1 }, workers, new Silent(), default);
        var after = Look(sam);
        Assert.True(after.Iou > 0.3 && after.Iou > 3 * before.Iou, $"{before.Iou:0.000} before, {after.Iou:0.000} after");
        Assert.True(after.Distinct < 0.4, $"{after.Distinct:0.00} of the masks differ");
    }

    /// <summary>The first mask is the smallest thing at a point, the second the organs that lie together there, the third the head.</summary>
    [Fact]
    public void A_point_asks_for_a_thing_its_region_and_the_head()
    {
        long[] Asked(PhantomOrgan organ, byte label)
        {
            using var scope = NewDisposeScope();
            byte[] organs = [.. Enumerable.Repeat((byte)organ, 16)];
            return new MiniSamPrompts([new TrainingSlice(0, organs, organs, [.. Enumerable.Repeat(label, 16)], [])], 1, new Random(1)).Kinds;
        }
        long[] bled = Asked(PhantomOrgan.Thalamus, TrainingSlice.Lesion);
        Assert.Equal([TrainingSlice.Lesion, bled[1], MiniSamPrompts.Head], bled);
        Assert.True(bled[1] > MiniSamPrompts.Head && bled[1] < MiniSamPrompts.Count);
        Assert.Equal(bled[1], Asked(PhantomOrgan.ThirdVentricle, (byte)PhantomOrgan.ThirdVentricle)[1]);
        Assert.Equal([(long)PhantomOrgan.Frontal, (long)PhantomOrgan.Frontal, MiniSamPrompts.Head], Asked(PhantomOrgan.Frontal, (byte)PhantomOrgan.Frontal));
        Assert.True(MiniSamPrompts.IsPart((int)PhantomOrgan.LateralVentricle, (int)bled[1]) && !MiniSamPrompts.IsPart((int)PhantomOrgan.Frontal, (int)bled[1]));
        for (int organ = 1; organ < TrainingSlice.Lesion; organ++)
            Assert.InRange(Enumerable.Range(MiniSamPrompts.Head + 1, MiniSamPrompts.Count - MiniSamPrompts.Head - 1).Count(kind => MiniSamPrompts.IsPart(organ, kind)), 0, 1);
    }

    [Fact]
    public void Masks_must_have_the_size_of_the_slices()
    {
        using var sam = new SamModel(new SamConfig { ImageSize = 16, PatchSize = 8, EmbedDim = 16, Depth = 1, NumHeads = 2, WindowSize = 2, GlobalAttnIndexes = [0], PromptEmbedDim = 32, DecoderHeads = 2 });
        using var workers = new Workers(1);
        Assert.Throws<ArgumentException>(() => MiniSam.Fit(sam, [], new MiniCluesConfig(), workers, new Silent(), default));
    }

    private sealed class Silent : IProgress<StageProgress>
    {
        public void Report(StageProgress value)
        {
        }
    }

    /// <summary>At the start masks are made of the channels that the organs were learned from, whatever the prompt.</summary>
    [Fact]
    public void Patches_do_not_learn_of_prompts_at_the_start()
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var points = rand(2, 1, 2) * 16;
        // Of the patches with and without what they learn, and of the masks from there and of the decoder, which leaves out what is nothing.
        (double Patches, double Masks) Difference()
        {
            var image = _sam.ImageEncoder.forward(ones(1, 3, 16, 16));
            var (sparse, dense) = _sam.PromptEncoder.Forward(new SamPrompts(points, ones(2, 1, dtype: int32)));
            var (positions, decoder) = (_sam.PromptEncoder.DensePositions(), _sam.MaskDecoder);
            var (tokens, patches) = decoder.Attend(image, positions, sparse, dense, true);
            return ((patches - decoder.Attend(image, positions, sparse, dense, false).Patches).abs().max().item<float>(),
                (decoder.Masks(tokens, patches, true).Masks - decoder.Forward(image, positions, sparse, dense, true).Masks).abs().max().item<float>());
        }
        var before = Difference();
        Assert.True(before.Patches > 0.01 && before.Masks == 0, $"{before}");
        MiniSamStart.Fill(_sam);
        var after = Difference();
        Assert.True(after.Patches == 0 && after.Masks < 1e-5, $"{after}");
    }
}
