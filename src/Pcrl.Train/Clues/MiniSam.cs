using Pcrl.Train.Data;
using Pcrl.Train.Fitting;
using Pcrl.Train.Models.Sam;
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

    private readonly SamModel _sam;
    private readonly Tensor _positions;
    private readonly nn.Module<Tensor, Tensor> _namer;

    private MiniSam(SamModel sam)
    {
        _sam = sam;
        _positions = sam.PromptEncoder.DensePositions().DetachFromDisposeScope();
        _namer = nn.Conv2d(sam.Config.PromptEmbedDim / 8, Classes, 1);
        Parameters = [.. sam.parameters(), .. _namer.parameters()];
        sam.train();
    }

    private IReadOnlyList<Parameter> Parameters { get; }

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
        using var first = new MiniSam(sam);
        MiniSam[] learners = [first, .. Enumerable.Range(1, workers.Count - 1).Select(_ => first.Replicate())];
        Random[] randoms = [.. learners.Select((_, i) => new Random(config.Seed + i))];
        void Learn(string stage, FitConfig fit, int prompts, bool outputsOnly)
        {
            foreach (var learner in learners)
                learner.Freeze(outputsOnly);
            FitLoop.Run(stage, fit, workers, [.. learners.Select(l => l.Learned)], worker =>
            {
                var chosen = randoms[worker].GetItems(slices, FitLoop.Share(fit, workers));
                return learners[worker].Loss(chosen, prompts, randoms[worker]);
            }, progress, cancellation);
        }
        try
        {
            Learn("organs", config.OrganFit, 0, outputsOnly: false);
            Learn("masks", config.OutputFit, config.Prompts, outputsOnly: true);
            Learn("segment", config.SamFit, config.Prompts, outputsOnly: false);
        }
        finally
        {
            foreach (var replica in learners.Skip(1))
            {
                replica._sam.Dispose();
                replica.Dispose();
            }
        }
        sam.eval();
    }

    private MiniSam Replicate()
    {
        var copy = new MiniSam(new SamModel(_sam.Config));
        using var nothing = no_grad();
        foreach (var (to, from) in copy.Parameters.Zip(Parameters).Select(p => ((Tensor)p.First, (Tensor)p.Second))
            .Concat(copy._sam.buffers().Zip(_sam.buffers())))
            to.copy_(from);
        copy._positions.copy_(_positions);
        return copy;
    }

    /// <summary>The loss of some slices with as many points on each, all mirrored or none.</summary>
    private Tensor Loss(TrainingSlice[] slices, int prompts, Random random)
    {
        using var scope = NewDisposeScope();
        int side = _sam.Config.ImageSize;
        bool mirrored = random.Next(2) == 0; // a mirrored head is a head: sides have no names here
        Tensor Pictures(IEnumerable<byte> bytes, int channels)
        {
            var pictures = tensor(bytes.ToArray(), uint8).view(-1, channels, side, side);
            return mirrored ? pictures.flip(3) : pictures;
        }
        // Every n-th pixel, where the model's masks are coarser than the slices.
        Tensor Targets(Tensor pictures) => nn.functional.interpolate(
            pictures, [_sam.Config.LowResolution, _sam.Config.LowResolution], mode: InterpolationMode.Nearest);

        var shown = Pictures(slices.SelectMany(s => s.Pixels), 1).expand(-1, 3, -1, -1).to(float32);
        var embedding = _sam.ImageEncoder.forward(_sam.Preprocess(shown));
        var organs = Targets(Pictures(slices.SelectMany(Labels), 1)).squeeze(1).to(int64);
        var loss = nn.functional.cross_entropy(_namer.forward(_sam.MaskDecoder.Upscale(embedding)), organs);
        if (prompts == 0)
            return loss.MoveToOuterDisposeScope();

        int count = slices.Length * prompts;
        var points = new float[2 * count];
        var things = new byte[count * SamMaskDecoder.Multimasks * side * side];
        for (int i = 0; i < count; i++)
        {
            var slice = slices[i / prompts];
            int at = Point(slice, random);
            (points[2 * i], points[2 * i + 1]) = (mirrored ? side - 1 - at % side : at % side, at / side);
            WriteTargets(slice, at, things.AsSpan(i * SamMaskDecoder.Multimasks * side * side));
        }
        var (sparse, dense) = _sam.PromptEncoder.Forward(new SamPrompts(tensor(points).view(count, 1, 2), ones(count, 1, dtype: int32)));
        var (masks, iou) = _sam.MaskDecoder.Forward(slices.Length == 1 ? embedding : embedding.repeat_interleave(prompts, 0), _positions, sparse, dense, multimask: true);
        return (loss + MaskLoss(masks, iou, Targets(Pictures(things, SamMaskDecoder.Multimasks)).to(float32))).MoveToOuterDisposeScope();
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
        return (dice + entropy + (iou - real).square()).mean();
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
    }
}
