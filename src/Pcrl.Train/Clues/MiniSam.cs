using Pcrl.Train.Fitting;
using Pcrl.Train.Models.Sam;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Clues;

/// <summary>Teaches a small Segment Anything by points inside true masks, as the original was: the best of its three masks is trained.</summary>
internal static class MiniSam
{
    public static void Fit(
        SamModel sam, List<MiniClues.TrainingSlice> slices, MiniCluesConfig config, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var random = new Random(config.Seed);
        var positions = sam.PromptEncoder.DensePositions().DetachFromDisposeScope();
        sam.train();
        using var workers = new Workers(1);
        FitLoop.Run("segment", config.SamFit, workers, [[.. sam.parameters()]], _ => Loss(sam, slices, config, positions, random), progress, cancellation);
        sam.eval();
        positions.Dispose();
    }

    private static Tensor Loss(SamModel sam, List<MiniClues.TrainingSlice> slices, MiniCluesConfig config, Tensor positions, Random random)
    {
        using var scope = NewDisposeScope();
        int side = config.ImageSize;
        var chosen = Enumerable.Range(0, config.SamFit.Batch).Select(_ => slices[random.Next(slices.Count)]).ToList();
        var pictures = stack([.. chosen.Select(s => tensor(s.Pixels, uint8).view(1, side, side).expand(3, -1, -1))]).to(float32);
        var embeddings = sam.ImageEncoder.forward(sam.Preprocess(pictures));
        var points = new List<float>();
        var targets = new List<Tensor>();
        foreach (var slice in chosen)
        {
            for (int p = 0; p < config.Prompts; p++)
            {
                var thing = slice.Things[random.Next(slice.Things.Count)];
                int at = PointInside(thing.Mask, random);
                points.AddRange([at % side, at / side]);
                targets.Add(tensor(thing.Mask).view(1, side, side));
            }
        }
        int count = targets.Count;
        var truth = stack([.. targets]).to(float32); // [N, 1, S, S]
        truth = nn.functional.adaptive_avg_pool2d(truth, [config.Sam.LowResolution, config.Sam.LowResolution]);
        var prompts = new SamPrompts(tensor(points.ToArray()).view(count, 1, 2), ones(count, 1, dtype: int32));
        var (sparse, dense) = sam.PromptEncoder.Forward(prompts);
        var (masks, iou) = sam.MaskDecoder.Forward(embeddings.repeat_interleave(config.Prompts, 0), positions, sparse, dense, multimask: true);

        var wanted = truth.expand_as(masks).flatten(2); // [N, 3, L·L]
        var logits = masks.flatten(2);
        var probability = logits.sigmoid();
        var dice = 1 - (2 * (probability * wanted).sum(-1) + 1) / (probability.sum(-1) + wanted.sum(-1) + 1);
        var entropy = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction: nn.Reduction.None);
        var miss = (1 - (probability * wanted + (1 - probability) * (1 - wanted))).square();
        var each = dice + 10 * (miss * entropy).mean([-1]); // [N, 3]
        using (no_grad())
        {
            var inside = logits.gt(0);
            var there = wanted.gt(0.5);
            wanted = inside.logical_and(there).sum(-1).to(float32) / inside.logical_or(there).sum(-1).to(float32).clamp_min(1);
        }
        var opinion = (iou - wanted.detach()).square().mean();
        return (each.amin([1]).mean() + 0.1 * each.mean() + opinion).MoveToOuterDisposeScope();
    }

    private static int PointInside(bool[] mask, Random random)
    {
        while (true)
        {
            int at = random.Next(mask.Length);
            if (mask[at])
                return at;
        }
    }
}
