using Pcrl.Train.Data;
using Pcrl.Train.Fitting;
using Pcrl.Train.Models.Sam;
using Pcrl.Train.Quantisation;
using Pcrl.Train.Torch;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Pcrl.Train.Clues;

/// <summary>
/// Teaches a small Segment Anything by points on slices whose truth is known. The three masks of a point are the lesion or organ there, the region of organs that
/// lie together, and the whole head. Masks of points alone teach too slowly for minutes. But a mask is a weighted sum of the decoder's channels: so the channels are
/// learned first, with the weights that make every organ and region of them, for all pixels at once; after that a point has only to choose among those weights, and
/// chooses one.
/// </summary>
internal sealed class MiniSam : IDisposable
{
    /// <summary>What encoder and decoder compute in while they learn: matrices of this size are several times as fast in bfloat16 where the processor has it.</summary>
    private static readonly ScalarType Type = BaseWeightsPrecision.MultipliesBfloat16 ? ScalarType.BFloat16 : ScalarType.Float32;

    private readonly SamModel _sam;
    private readonly Tensor _positions;
    private readonly Parameter _kinds; // [kinds, D/8]: the channels' weights that make the mask of an organ, of lesions, of the head, of a region
    private readonly Tensor _parts; // [organs, kinds]: 1 where an organ belongs to a kind
    private readonly Tensor _rarity; // [organs and lesions]: weights in the cross-entropy

    private MiniSam(SamModel sam, Tensor rarity, Tensor parts)
    {
        (_sam, _rarity, _parts) = (sam, rarity, parts);
        Cast(sam, Type);
        _positions = sam.PromptEncoder.DensePositions().to(Type).DetachFromDisposeScope();
        int channels = sam.Config.PromptEmbedDim / 8;
        _kinds = nn.Parameter((randn(MiniSamPrompts.Count, channels) / Math.Sqrt(channels)).to(Type));
        Parameters = [.. sam.parameters(), _kinds];
        sam.train();
    }

    private IReadOnlyList<Parameter> Parameters { get; }

    /// <summary>What the channels come from: the image encoder and, of the decoder, what a patch goes through without prompts.</summary>
    private IReadOnlyList<Parameter> Channels => [.. _sam.named_parameters().Where(p => MakesChannels(p.name)).Select(p => p.parameter)];

    /// <summary>What chooses masks for a point: all but what the choice is between.</summary>
    private IReadOnlyList<Parameter> Choosers => [.. _sam.named_parameters().Where(p => !MakesChannels(p.name) && !MiniSamStart.Knows(p.name)).Select(p => p.parameter)];

    private static bool MakesChannels(string name) =>
        name.StartsWith("image_encoder.", StringComparison.Ordinal) || name.Contains("no_mask_embed") || name.Contains("norm4") || name.Contains("output_upscaling");

    /// <summary>Prompts stay in float32: places need it.</summary>
    private static void Cast(SamModel sam, ScalarType type)
    {
        sam.ImageEncoder.to(type);
        sam.MaskDecoder.to(type);
    }

    /// <summary>Trains the model.</summary>
    /// <exception cref="ArgumentException">Masks and slices differ in size.</exception>
    public static void Fit(
        SamModel sam, TrainingSlice[] slices, MiniCluesConfig config, Workers workers, IProgress<StageProgress> progress,
        CancellationToken cancellation)
    {
        if (sam.Config.LowResolution != sam.Config.ImageSize)
            throw new ArgumentException("a small segmenter learns from masks of the size of its slices: patches of 4", nameof(sam));
        MiniSamStart.Fill(sam);
        using var rarity = Rarity(slices);
        using var parts = Parts();
        using var first = new MiniSam(sam, rarity, parts);
        MiniSam[] learners = [first, .. Enumerable.Range(1, workers.Count - 1).Select(_ => first.Replicate())];
        Random[] randoms = [.. learners.Select((_, i) => new Random(config.Seed + i))];
        void Learn(string stage, FitConfig fit, Func<MiniSam, IReadOnlyList<Parameter>> parameters, Func<MiniSam, TrainingSlice[], Random, Tensor> loss) =>
            FitLoop.Run(stage, fit, workers, [.. learners.Select(parameters)], worker =>
            {
                var chosen = randoms[worker].GetItems(slices, FitLoop.Share(fit, workers));
                return loss(learners[worker], chosen, randoms[worker]);
            }, progress, cancellation);
        try
        {
            Learn("organs", config.OrganFit, l => [.. l.Channels, l._kinds], (learner, chosen, random) => learner.OrganLoss(chosen, random));
            foreach (var learner in learners)
                MiniSamStart.Know(learner._sam, learner._kinds);
            Learn("points", config.PointFit, l => l.Choosers, (learner, chosen, random) => learner.PointLoss(chosen, config.Points, random));
        }
        finally
        {
            foreach (var replica in learners.Skip(1))
            {
                replica._sam.Dispose();
                replica.Dispose();
            }
        }
        Cast(sam, ScalarType.Float32);
        sam.eval();
    }

    private MiniSam Replicate()
    {
        var copy = new MiniSam(new SamModel(_sam.Config), _rarity, _parts);
        using var nothing = no_grad();
        foreach (var (to, from) in copy.Parameters.Zip(Parameters).Select(p => ((Tensor)p.First, (Tensor)p.Second))
            .Concat(copy._sam.buffers().Zip(_sam.buffers())))
            to.copy_(from);
        copy._positions.copy_(_positions);
        return copy;
    }

    /// <summary>What makes organs of the channels: half of cross-entropy, in which rare organs count for more, and dice of what is there.</summary>
    private Tensor OrganLoss(TrainingSlice[] slices, Random random)
    {
        using var scope = NewDisposeScope();
        var prompts = new MiniSamPrompts(slices, 1, random);
        var (_, dense) = _sam.PromptEncoder.Forward(new SamPrompts(prompts.Points, ones(slices.Length, 1, dtype: int32)));
        var logits = _sam.MaskDecoder.Upscale(_sam.MaskDecoder.Unprompted(Embed(prompts), dense.to(Type))).matmul(_kinds.t()).to(float32); // [B, pixels, kinds]
        var (wanted, area, labels) = Truth(prompts);
        var there = area.gt(0).to(float32);
        var entropy = nn.functional.cross_entropy(logits.narrow(2, 0, MiniSamPrompts.Head).flatten(0, 1), labels.flatten(), weight: _rarity);
        var probability = logits.sigmoid();
        var dice = 1 - (2 * (probability * wanted).sum(1) + 1) / (probability.sum(1) + area + 1);
        return (0.5 * entropy + (dice * there).sum() / there.sum()).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// How well the last layer's inputs name the kind that a mask shall show, by cross-entropy; how far they are from a choice of that kind alone; and the squared
    /// error of the predicted IoU. Where only one input is above zero, the mask is exactly that kind's, so that points which choose alike give one mask: of masks
    /// that differ by a pixel a gallery would hold nothing but copies of the largest organ. The distance is not squared: of two likely kinds a point shall choose
    /// one, as what lies between the two is a mask of neither. Points outside of the head choose nothing.
    /// </summary>
    private Tensor PointLoss(TrainingSlice[] slices, int points, Random random)
    {
        using var scope = NewDisposeScope();
        var prompts = new MiniSamPrompts(slices, points, random);
        Tensor embedding;
        using (no_grad())
            embedding = Embed(prompts);
        var (tokens, patches) = Attend(embedding, prompts);
        var kinds = tensor(prompts.Kinds); // [N · 3]
        var shown = kinds.ne((long)PhantomOrgan.Outside).to(float32);
        var choices = _sam.MaskDecoder.Choices(tokens).narrow(2, 0, MiniSamPrompts.Count).flatten(0, 1).to(float32); // [N · 3, kinds]
        var entropy = nn.functional.cross_entropy(choices, kinds, ignore_index: (long)PhantomOrgan.Outside);
        var sides = 2 * nn.functional.one_hot(kinds, MiniSamPrompts.Count).to(float32) * shown.unsqueeze(1) - 1; // above 1 the kind, below −1 all others
        var distance = (1 - sides * choices).clamp_min(0).square().sum(1).add(1e-4).sqrt();
        var weights = choices.detach().clamp_min(0).matmul(_kinds.detach().to(float32)).view(tokens.shape[0], SamMaskDecoder.Multimasks, -1);
        Tensor real;
        using (no_grad())
        {
            var (wanted, area, _) = Truth(prompts);
            var inside = weights.view(slices.Length, -1, weights.shape[2]).bmm(_sam.MaskDecoder.Upscale(patches).to(float32).transpose(1, 2)).gt(0).to(float32); // [B, points · 3, pixels]
            var each = kinds.view(slices.Length, -1);
            var both = inside.bmm(wanted).gather(2, each.unsqueeze(2)).squeeze(2);
            real = both / (inside.sum(2) + area.gather(1, each) - both).clamp_min(1) * shown.view_as(both);
        }
        var error = (_sam.MaskDecoder.Quality(tokens, multimask: true).to(float32).reshape(real.shape) - real).square();
        return (entropy + distance.mean() + error.mean()).MoveToOuterDisposeScope();
    }

    private Tensor Embed(MiniSamPrompts prompts) => _sam.ImageEncoder.forward(_sam.Preprocess(prompts.Shown()).to(Type));

    private (Tensor Tokens, Tensor Patches) Attend(Tensor embedding, MiniSamPrompts prompts)
    {
        var (sparse, dense) = _sam.PromptEncoder.Forward(new SamPrompts(prompts.Points, ones(prompts.Points.shape[0], 1, dtype: int32)));
        return _sam.MaskDecoder.Attend(embedding, _positions, sparse.to(Type), dense.to(Type), patchesLearn: false);
    }

    /// <summary>What is where, in the order of the channels: [B, pixels, kinds] of 0 and 1, their sums over the pixels, and every pixel's label.</summary>
    private (Tensor Wanted, Tensor Area, Tensor Labels) Truth(MiniSamPrompts prompts)
    {
        var (organs, labels) = (SamMaskDecoder.Take(prompts.Organs()).to(int64), SamMaskDecoder.Take(prompts.Labels()).to(int64));
        var wanted = _parts.index_select(0, organs.flatten()).view(organs.shape[0], organs.shape[1], -1);
        wanted.select(2, TrainingSlice.Lesion).copy_(labels.eq((long)TrainingSlice.Lesion));
        return (wanted, wanted.sum(1), labels);
    }

    /// <summary>What <see cref="_parts"/> holds.</summary>
    private static Tensor Parts() => tensor(Enumerable.Range(0, TrainingSlice.Lesion)
        .SelectMany(organ => Enumerable.Range(0, MiniSamPrompts.Count).Select(kind => MiniSamPrompts.IsPart(organ, kind) ? 1f : 0)).ToArray()).view(TrainingSlice.Lesion, -1);

    /// <summary>One over the root of each organ's share of all pixels.</summary>
    private static Tensor Rarity(TrainingSlice[] slices)
    {
        var counts = new double[MiniSamPrompts.Head];
        foreach (byte label in slices.SelectMany(s => s.Labels))
            counts[label]++;
        return tensor(Array.ConvertAll(counts, c => (float)(1 / Math.Sqrt(c / counts.Sum() + 1e-4))));
    }

    public void Dispose()
    {
        _positions.Dispose();
        _kinds.Dispose();
    }
}
