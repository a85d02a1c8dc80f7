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
/// Teaches a small Segment Anything by points on slices whose truth is known. The three masks of a point are its innermost thing (a lesion, else the
/// connected part of the organ), its organ with all parts, and the whole head: the original's subpart, part and whole. Points alone teach too slowly for
/// minutes, so a layer that is thrown away afterwards names the organ of every pixel from the channels that the decoder makes its masks of.
/// </summary>
internal sealed class MiniSam : IDisposable
{
    private const int Lesion = (int)PhantomOrgan.Tentorium + 1, Classes = Lesion + 1;

    /// <summary>What encoder and decoder compute in while they learn: matrices of this size are several times as fast in bfloat16 where the processor has it.</summary>
    private static readonly ScalarType Type = BaseWeightsPrecision.MultipliesBfloat16 ? ScalarType.BFloat16 : ScalarType.Float32;

    private readonly SamModel _sam;
    private readonly Tensor _positions;
    private readonly nn.Module<Tensor, Tensor> _namer, _tokenNamer; // throw-away layers that name organs
    private readonly Tensor _rarity; // [organs]: weights in the cross-entropy

    private MiniSam(SamModel sam, Tensor rarity)
    {
        (_sam, _rarity) = (sam, rarity);
        Cast(sam, Type);
        _positions = sam.PromptEncoder.DensePositions().to(Type).DetachFromDisposeScope();
        _namer = nn.Linear(sam.Config.PromptEmbedDim / 8, Classes).to(Type);
        _tokenNamer = nn.Linear(sam.Config.PromptEmbedDim, Classes).to(Type);
        Parameters = [.. sam.parameters(), .. _namer.parameters(), .. _tokenNamer.parameters()];
        sam.train();
    }

    private IReadOnlyList<Parameter> Parameters { get; }

    /// <summary>Prompts stay in float32: places need it.</summary>
    private static void Cast(SamModel sam, ScalarType type)
    {
        sam.ImageEncoder.to(type);
        sam.MaskDecoder.to(type);
    }

    /// <summary>What is not frozen.</summary>
    private IReadOnlyList<Parameter> Learned => [.. Parameters.Where(p => p.requires_grad)];

    /// <summary>Leaves gradients to what makes masks of the decoder's tokens and channels, or to everything.</summary>
    private void Freeze(bool allButOutputs)
    {
        foreach (var (name, parameter) in _sam.named_parameters())
            parameter.requires_grad = !allButOutputs || name.StartsWith("mask_decoder.output_", StringComparison.Ordinal) || name.StartsWith("mask_decoder.iou_prediction_", StringComparison.Ordinal);
    }

    /// <summary>Trains the model.</summary>
    public static void Fit(
        SamModel sam, TrainingSlice[] slices, MiniCluesConfig config, Workers workers, IProgress<StageProgress> progress,
        CancellationToken cancellation)
    {
        MiniSamStart.Fill(sam);
        using var rarity = Rarity(slices);
        using var first = new MiniSam(sam, rarity);
        MiniSam[] learners = [first, .. Enumerable.Range(1, workers.Count - 1).Select(_ => first.Replicate())];
        Random[] randoms = [.. learners.Select((_, i) => new Random(config.Seed + i))];
        void Learn(string stage, FitConfig fit, int prompts, bool masks, bool outputsOnly = false)
        {
            foreach (var learner in learners)
                learner.Freeze(outputsOnly);
            FitLoop.Run(stage, fit, workers, [.. learners.Select(l => l.Learned)], worker =>
            {
                var chosen = randoms[worker].GetItems(slices, FitLoop.Share(fit, workers));
                return learners[worker].Loss(chosen, prompts, masks, randoms[worker]);
            }, progress, cancellation);
        }
        try
        {
            Learn("organs", config.OrganFit, 0, masks: false);
            Learn("points", config.PointFit, config.Points, masks: false);
            Learn("masks", config.OutputFit, config.Prompts, masks: true, outputsOnly: true);
            Learn("segment", config.SamFit, config.Prompts, masks: true);
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
        var copy = new MiniSam(new SamModel(_sam.Config), _rarity);
        using var nothing = no_grad();
        foreach (var (to, from) in copy.Parameters.Zip(Parameters).Select(p => ((Tensor)p.First, (Tensor)p.Second))
            .Concat(copy._sam.buffers().Zip(_sam.buffers())))
            to.copy_(from);
        copy._positions.copy_(_positions);
        return copy;
    }

    /// <summary>The loss of some slices with as many points on each, all mirrored or none.</summary>
    private Tensor Loss(TrainingSlice[] slices, int prompts, bool withMasks, Random random)
    {
        using var scope = NewDisposeScope();
        int side = _sam.Config.ImageSize;
        bool mirrored = random.Next(2) == 0; // a mirrored head is a head: sides have no names here
        Tensor Pictures(IEnumerable<byte> bytes, int channels)
        {
            var pictures = tensor(bytes.ToArray(), uint8).view(-1, channels, side, side);
            return mirrored ? pictures.flip(3) : pictures;
        }
        var shown = Pictures(slices.SelectMany(s => s.Pixels), 1).expand(-1, 3, -1, -1).to(float32);
        var embedding = _sam.ImageEncoder.forward(_sam.Preprocess(shown).to(Type));
        var loss = OrganLoss(Enlarge(SamMaskDecoder.Assemble(_namer.forward(_sam.MaskDecoder.Upscale(embedding.flatten(2).transpose(1, 2))).transpose(1, 2))), Pictures(slices.SelectMany(Labels), 1).squeeze(1).to(int64));
        if (prompts == 0)
            return loss.MoveToOuterDisposeScope();

        int count = slices.Length * prompts, pixels = side * side;
        var points = new float[2 * count];
        var names = new long[2 * count];
        var things = new byte[withMasks ? count * SamMaskDecoder.Multimasks * pixels : 0];
        for (int i = 0; i < count; i++)
        {
            var slice = slices[i / prompts];
            int at = Point(slice, random);
            (points[2 * i], points[2 * i + 1]) = (mirrored ? side - 1 - at % side : at % side, at / side);
            (names[2 * i], names[2 * i + 1]) = (slice.Things.Any(t => t.IsLesion && t.Mask[at]) ? Lesion : slice.Organs[at], slice.Organs[at]);
            if (withMasks)
                WriteTargets(slice, at, things.AsSpan(i * SamMaskDecoder.Multimasks * pixels));
        }
        var (sparse, dense) = _sam.PromptEncoder.Forward(new SamPrompts(tensor(points).view(count, 1, 2), ones(count, 1, dtype: int32)));
        var (tokens, patches) = _sam.MaskDecoder.Attend(
            slices.Length == 1 ? embedding : embedding.repeat_interleave(prompts, 0), _positions, sparse.to(Type), dense.to(Type));
        // The tokens of the first two masks of several, behind the IoU's and the single mask's.
        loss = loss + nn.functional.cross_entropy(_tokenNamer.forward(tokens.narrow(1, 2, 2)).flatten(0, 1).to(float32), tensor(names));
        if (withMasks)
        {
            var (masks, iou) = _sam.MaskDecoder.Masks(tokens, patches, multimask: true);
            loss = loss + MaskLoss(Enlarge(masks), iou.to(float32), Pictures(things, SamMaskDecoder.Multimasks).to(float32));
        }
        return loss.MoveToOuterDisposeScope();
    }

    /// <summary>Logits at the size of the slices, as the generator makes masks of them.</summary>
    private Tensor Enlarge(Tensor logits) => _sam.Config.LowResolution == _sam.Config.ImageSize
        ? logits.to(float32)
        : nn.functional.interpolate(logits.to(float32), [_sam.Config.ImageSize, _sam.Config.ImageSize], mode: InterpolationMode.Bilinear, align_corners: false);

    /// <summary>Cross-entropy, in which rare organs count for more, and dice of the organs that are there. [B, organs, S, S] and [B, S, S].</summary>
    private Tensor OrganLoss(Tensor logits, Tensor organs)
    {
        var wanted = nn.functional.one_hot(organs, Classes).permute(0, 3, 1, 2).to(float32);
        var area = wanted.sum([2, 3]); // [B, organs]
        var there = area.gt(0).to(float32);
        var probability = logits.softmax(1);
        var dice = 1 - (2 * (probability * wanted).sum([2, 3]) + 1) / (probability.sum([2, 3]) + area + 1);
        return nn.functional.cross_entropy(logits, organs, weight: _rarity) + (dice * there).sum() / there.sum();
    }

    /// <summary>Dice, cross-entropy (inside and outside of the mask alike, however small it is) and the squared error of the predicted IoU. All [N, 3, L, L] but <paramref name="iou"/>, which is [N, 3].</summary>
    private static Tensor MaskLoss(Tensor masks, Tensor iou, Tensor targets)
    {
        var (logits, wanted) = (masks.flatten(2), targets.flatten(2));
        var probability = logits.sigmoid();
        var both = (probability * wanted).sum(-1);
        var dice = 1 - (2 * both + 1) / (probability.sum(-1) + wanted.sum(-1) + 1);
        var each = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction: nn.Reduction.None);
        Tensor Mean(Tensor share) => (each * share).sum(-1) / share.sum(-1).clamp_min(1);
        var entropy = (Mean(wanted) + Mean(1 - wanted)) / 2;
        Tensor real;
        using (no_grad())
        {
            var inside = logits.gt(0);
            var there = wanted.gt(0.5);
            real = inside.logical_and(there).sum(-1).to(float32) / inside.logical_or(there).sum(-1).to(float32).clamp_min(1);
        }
        return (dice + 0.25 * entropy + (iou - real).square()).mean();
    }

    /// <summary>One over the root of each organ's share of all pixels.</summary>
    private static Tensor Rarity(TrainingSlice[] slices)
    {
        var counts = new double[Classes];
        foreach (byte label in slices.SelectMany(Labels))
            counts[label]++;
        return tensor(Array.ConvertAll(counts, c => (float)(1 / Math.Sqrt(c / counts.Sum() + 1e-4))));
    }

    /// <summary>Organ of every pixel, lesions above them.</summary>
    private static byte[] Labels(TrainingSlice slice)
    {
        byte[] labels = [.. slice.Organs];
        foreach (var thing in slice.Things.Where(t => t.IsLesion))
        {
            for (int i = 0; i < labels.Length; i++)
                labels[i] = thing.Mask[i] ? (byte)Lesion : labels[i];
        }
        return labels;
    }

    /// <summary>A point of a thing, most often; else of the whole picture, so that the model learns where there is nothing.</summary>
    private static int Point(TrainingSlice slice, Random random)
    {
        if (random.Next(6) == 0)
            return random.Next(slice.Pixels.Length);
        bool[] mask = slice.Things[random.Next(slice.Things.Count)].Mask;
        while (true)
        {
            int at = random.Next(mask.Length);
            if (mask[at])
                return at;
        }
    }

    /// <summary>Innermost thing, organ and head at a point; empty where there is none.</summary>
    private static void WriteTargets(TrainingSlice slice, int at, Span<byte> targets)
    {
        int pixels = slice.Pixels.Length;
        var inner = slice.Things.FirstOrDefault(t => t.IsLesion && t.Mask[at]) ?? slice.Things.FirstOrDefault(t => t.Mask[at]);
        byte organ = slice.Organs[at];
        const byte outside = (byte)PhantomOrgan.Outside;
        for (int i = 0; i < pixels; i++)
        {
            targets[i] = inner is not null && inner.Mask[i] ? (byte)1 : (byte)0;
            targets[pixels + i] = organ != outside && slice.Organs[i] == organ ? (byte)1 : (byte)0;
            targets[2 * pixels + i] = organ != outside && slice.Organs[i] != outside ? (byte)1 : (byte)0;
        }
    }

    public void Dispose()
    {
        _positions.Dispose();
        _namer.Dispose();
        _tokenNamer.Dispose();
    }
}
