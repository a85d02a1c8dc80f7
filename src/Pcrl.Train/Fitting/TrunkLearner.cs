using Pcrl.Train.Data;
using Pcrl.Train.Models;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Pcrl.Train.Fitting;

/// <summary>
/// A trunk with the heads that teach it. One linear head on the global average pool reads the slice labels, so that they stay linearly readable in
/// P; side and region are part of them and so outlive the pooling. Heads on the cells of the last two stages are told where the lesion and
/// which organ is, without which small lesions are not found in a thousand steps.
/// </summary>
internal sealed class TrunkLearner : IDisposable
{
    private readonly PcrlModel _model;
    private readonly Linear _sliceHead, _cellHead, _earlyHead, _organHead;

    public TrunkLearner(PcrlModel model)
    {
        _model = model;
        int channels = model.Shape.Visual.FeatureChannels;
        _sliceHead = Head(channels);
        _cellHead = Head(channels);
        _earlyHead = Head(channels / 2);
        _organHead = nn.Linear(channels / 2, TrunkTargets.OrganCount);
        Parameters = [.. model.Trunk.parameters(), .. Heads.SelectMany(h => h.parameters())];
    }

    /// <summary>What is trained.</summary>
    public IReadOnlyList<Parameter> Parameters { get; }

    private Linear[] Heads => [_sliceHead, _cellHead, _earlyHead, _organHead];

    /// <summary>Another one with the same values.</summary>
    public TrunkLearner Replicate()
    {
        var copy = new TrunkLearner(_model.Replicate());
        copy._model.train();
        using var nothing = no_grad();
        foreach (var (to, from) in copy.Parameters.Zip(Parameters))
            to.copy_(from);
        return copy;
    }

    /// <summary>The loss of chosen slices.</summary>
    public Tensor Loss(TrunkFitConfig fit, IReadOnlyList<TrainingStudy> studies, (int Study, int Slice)[] picks, Random random)
    {
        // A study without a raster has no labels of sides either.
        var moves = picks.Select(p => SliceAugmentation.Move.Draw(random, fit.Augmentation, mayMirror: studies[p.Study].Raster is null)).ToArray();
        var slices = SliceAugmentation.Apply(Slices(studies, picks, _model.Shape.Visual.ImageSize), moves, fit.Augmentation);
        var stages = _model.TrunkStages(slices, fit.Bfloat16 ? ScalarType.BFloat16 : ScalarType.Float32);
        var targets = TrunkTargets.All;
        var (last, early) = (stages[^1].permute(0, 2, 3, 1), stages[^2].permute(0, 2, 3, 1)); // [N, h, w, C]
        float[] weights = [.. picks.Select(p => studies[p.Study].Raster is null ? fit.ScanWeight : 1)];
        var loss = Binary(_sliceHead.forward(last.mean([1, 2])), targets.OfSlices(studies, picks), tensor(weights).unsqueeze(1));
        if (!fit.Cells)
            return loss;
        var (lesions, _) = targets.OfCells(studies, picks, moves, (int)last.shape[1]);
        var (earlyLesions, organs) = targets.OfCells(studies, picks, moves, (int)early.shape[1]);
        return loss
            + 0.5 * Binary(_cellHead.forward(last), lesions)
            + 0.2 * Binary(_earlyHead.forward(early), earlyLesions)
            + 3 * nn.functional.cross_entropy(_organHead.forward(early).flatten(0, 2), organs.flatten());
    }

    /// <summary>Cross-entropy per slice; what nobody knows weighs nothing.</summary>
    private static Tensor Binary(Tensor logits, Tensor labels, Tensor? weights = null)
    {
        var known = labels.ge(0).to(float32);
        return nn.functional.binary_cross_entropy_with_logits(
            logits, labels.clamp_min(0), weights is null ? known : known * weights, nn.Reduction.Sum) / logits.shape[0];
    }

    private static Linear Head(int channels)
    {
        var head = nn.Linear(channels, TrunkTargets.All.Count);
        nn.init.constant_(head.bias!, -4); // what is asked is rare: start from there
        return head;
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

    public void Dispose()
    {
        foreach (var head in Heads)
            head.Dispose();
    }
}
