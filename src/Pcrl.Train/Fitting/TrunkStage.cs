using Pcrl.Train.Data;
using Pcrl.Train.Models;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Pcrl.Train.Fitting;

/// <summary>
/// Teaches the trunk what a slice shows: the stand-in for the authors' fine-tuning on CQ500. A linear head on the global average pool reads the slice
/// labels, so that they stay linearly readable in P; side and region are part of them and so outlive the pooling. Heads on the cells
/// of the last two stages are told where the lesion and which organ is, without which small lesions are not found in some hundred steps.
/// The heads are thrown away, the trunk is frozen.
/// </summary>
internal sealed class TrunkStage(PcrlModel model) : IDisposable
{
    private readonly Linear _sliceHead = Head(model.Shape.Visual.FeatureChannels, TrunkTargets.All.Count);
    private readonly Linear _cellHead = Head(model.Shape.Visual.FeatureChannels, TrunkTargets.All.Count);
    private readonly Linear _earlyHead = Head(model.Shape.Visual.FeatureChannels / 2, TrunkTargets.All.Count);
    private readonly Linear _organHead = nn.Linear(model.Shape.Visual.FeatureChannels / 2, TrunkTargets.OrganCount);

    /// <summary>Trains; returns the loss at the end.</summary>
    /// <param name="fit">Settings.</param>
    /// <param name="phantoms">Fully labelled studies.</param>
    /// <param name="scans">Real scans of which only the kinds of bleeding are known; may be empty.</param>
    /// <param name="seed">Seed of the choices.</param>
    /// <param name="progress">Told after every step.</param>
    /// <param name="cancellation">Looked at before every step.</param>
    public double Run(
        TrunkFitConfig fit, IReadOnlyList<TrainingStudy> phantoms, IReadOnlyList<TrainingStudy> scans, int seed,
        IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var random = new Random(seed);
        TrainingStudy[] studies = [.. phantoms, .. scans];
        var ill = phantoms.SelectMany((study, s) => Enumerable.Range(0, study.Labels.Length / SliceLabels.Count)
            .Where(k => HasLesion(study, k)).Select(k => (s, k))).ToArray();
        (int, int) Pick(int i)
        {
            // Half of the slices show a lesion: at their natural rate most steps would teach the trunk what health looks like.
            if (i % 2 == 0 && ill.Length > 0)
                return ill[random.Next(ill.Length)];
            int study = i % 8 == 1 && scans.Count > 0 ? phantoms.Count + random.Next(scans.Count) : random.Next(phantoms.Count);
            return (study, random.Next(studies[study].Labels.Length / SliceLabels.Count));
        }

        var heads = new[] { _sliceHead, _cellHead, _earlyHead, _organHead };
        model.train();
        return FitLoop.Run("trunk", fit, [.. model.Trunk.parameters(), .. heads.SelectMany(h => h.parameters())], _ =>
        {
            var picks = Enumerable.Range(0, fit.Batch).Select(Pick).ToArray();
            bool aug = Environment.GetEnvironmentVariable("AUG") == "1";
            var moves = picks.Select(_ => aug ? SliceAugmentation.Move.Draw(random) : new SliceAugmentation.Move(1, 0, 0, 0, 1, 0)).ToArray();
            var slices = Slices(studies, picks, model.Shape.Visual.ImageSize);
            if (aug) slices = SliceAugmentation.Apply(slices, moves);
            return Loss(model.TrunkStages(slices, fit.Bfloat16 ? ScalarType.BFloat16 : ScalarType.Float32), studies, picks, moves);
        }, progress, cancellation);
    }

    private Tensor Loss(IReadOnlyList<Tensor> stages, IReadOnlyList<TrainingStudy> studies, (int, int)[] picks, SliceAugmentation.Move[] moves)
    {
        var targets = TrunkTargets.All;
        var (last, early) = (stages[^1].permute(0, 2, 3, 1), stages[^2].permute(0, 2, 3, 1)); // [N, h, w, C]
        var (lesions, _) = targets.OfCells(studies, picks, moves, (int)last.shape[1]);
        var (earlyLesions, organs) = targets.OfCells(studies, picks, moves, (int)early.shape[1]);
        static Tensor Binary(Tensor logits, Tensor labels) =>
            nn.functional.binary_cross_entropy_with_logits(
                logits, labels.clamp_min(0), labels.ge(0).to(float32), nn.Reduction.Sum) / logits.shape[0]; // what nobody knows weighs nothing
        return Binary(_sliceHead.forward(last.mean([1, 2])), targets.OfSlices(studies, picks))
            + 0.5 * Binary(_cellHead.forward(last), lesions)
            + 0.2 * Binary(_earlyHead.forward(early), earlyLesions)
            + 3 * nn.functional.cross_entropy(_organHead.forward(early).flatten(0, 2), organs.flatten());
    }

    private static Linear Head(int channels, int targets)
    {
        var head = nn.Linear(channels, targets);
        nn.init.constant_(head.bias!, -4); // what is asked is rare: start from there
        return head;
    }

    private static bool HasLesion(TrainingStudy study, int slice)
    {
        var row = study.Labels.AsSpan(slice * SliceLabels.Count, SliceLabels.Count);
        for (int i = 0; i < row.Length; i++)
        {
            if (row[i] == 1 && SliceLabels.Names[i].StartsWith("kind:", StringComparison.Ordinal))
                return true;
        }
        return false;
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

    /// <summary>What the slice head reads in slices [N, S, S]: probabilities [N, targets].</summary>
    public Tensor Read(Tensor slices) => _sliceHead.forward(model.TrunkStages(slices)[^1].mean([2, 3])).sigmoid();
    public Tensor ReadCells(Tensor slices) => _cellHead.forward(model.TrunkStages(slices)[^1].permute(0,2,3,1)).sigmoid().mean([1,2])*10;

    public void Dispose()
    {
        foreach (var head in new[] { _sliceHead, _cellHead, _earlyHead, _organHead })
            head.Dispose();
    }
}
