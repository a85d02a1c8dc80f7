using Pcrl.Train.Data;
using Pcrl.Train.Models;
using Pcrl.Train.Quantisation;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Pcrl.Train.Fitting;

/// <summary>A trunk with the heads that teach it.</summary>
internal sealed class TrunkLearner
{
    private readonly PcrlModel _model;
    private readonly TrunkHeads _heads;

    public TrunkLearner(PcrlModel model, TrunkHeads heads)
    {
        (_model, _heads) = (model, heads);
        Parameters = [.. model.Trunk.parameters(), .. heads.parameters()];
    }

    /// <summary>What is trained.</summary>
    public IReadOnlyList<Parameter> Parameters { get; }

    /// <summary>Another one with the same values.</summary>
    public TrunkLearner Replicate()
    {
        var copy = _model.Replicate();
        copy.train();
        return new TrunkLearner(copy, _heads.Replicate());
    }

    /// <summary>The loss of chosen slices.</summary>
    public Tensor Loss(TrunkFitConfig fit, IReadOnlyList<TrainingStudy> studies, (int Study, int Slice)[] picks, Random random)
    {
        // A study without a raster has no labels of sides either.
        var moves = picks.Select(p => SliceAugmentation.Move.Draw(random, fit.Augmentation, sideless: studies[p.Study].Raster is null)).ToArray();
        var slices = SliceAugmentation.Apply(Slices(studies, picks, _model.Shape.Visual.ImageSize), moves, fit.Augmentation);
        var stages = _model.TrunkStages(slices, fit.Bfloat16 ? BaseWeights.Bfloat16.ComputeType() : ScalarType.Float32);
        var targets = TrunkTargets.All;
        var (last, early) = (stages[^1].permute(0, 2, 3, 1), stages[^2].permute(0, 2, 3, 1)); // [N, h, w, C]
        float scanWeight = (fit as ScanFitConfig)?.ScanWeight ?? 1;
        float[] weights = [.. picks.Select(p => studies[p.Study].Raster is null ? scanWeight : 1)];
        var wanted = targets.OfSlices(studies, picks, fit.Places);
        var weight = tensor(weights).unsqueeze(1);
        var loss = Binary(_heads.Slice.forward(last.mean([1, 2])), wanted, weight);
        if (!fit.Cells)
            return loss;
        var (lesions, _) = targets.OfCells(studies, picks, moves, (int)last.shape[1]);
        var (earlyLesions, organs) = targets.OfCells(studies, picks, moves, (int)early.shape[1]);
        var cells = _heads.Cell.forward(last);
        // Of a slice without a raster it is known what is somewhere on it: then some cell has to say so.
        var somewhere = TrunkTargets.Somewhere(studies, picks, wanted);
        return loss
            + 0.5 * Binary(cells, lesions)
            + 0.5 * Binary(cells.flatten(1, 2).logsumexp(1), somewhere, weight)
            + 0.2 * Binary(_heads.Early.forward(early), earlyLesions)
            + 3 * nn.functional.cross_entropy(_heads.Organ.forward(early).flatten(0, 2), organs.flatten());
    }

    /// <summary>Cross-entropy per slice; what nobody knows weighs nothing.</summary>
    private static Tensor Binary(Tensor logits, Tensor labels, Tensor? weights = null)
    {
        var known = labels.ge(0).to(float32);
        return nn.functional.binary_cross_entropy_with_logits(
            logits, labels.clamp_min(0), weights is null ? known : known * weights, nn.Reduction.Sum) / logits.shape[0];
    }

    /// <summary>Slices as [N, S, S] in 0..1.</summary>
    public static Tensor Slices(IReadOnlyList<TrainingStudy> studies, (int Study, int Slice)[] picks, int size)
    {
        var bytes = new byte[picks.Length * size * size];
        for (int i = 0; i < picks.Length; i++)
            studies[picks[i].Study].Slices.AsSpan(picks[i].Slice * size * size, size * size).CopyTo(bytes.AsSpan(i * size * size));
        using var scope = NewDisposeScope();
        return (tensor(bytes, ScalarType.Byte).view(picks.Length, size, size).to(float32) / 255).MoveToOuterDisposeScope();
    }
}
