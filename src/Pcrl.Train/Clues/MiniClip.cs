using Microsoft.ML.Tokenizers;
using Pcrl.Train.Fitting;
using Pcrl.Train.Models;
using Pcrl.Train.Models.Clip;
using Pcrl.Train.Torch;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Pcrl.Train.Clues;

/// <summary>A mask that a small CLIP learns from, with what it really covers.</summary>
/// <param name="Slice">The slice under it.</param>
/// <param name="Mask">[S, S] row-major.</param>
internal sealed record LabelledMask(TrainingSlice Slice, bool[] Mask);

/// <summary>
/// Teaches a small CLIP which masked slice shows which entity: as retrieval does, it chooses for an entity among all masks on slices of that entity's layers in one study.
/// It learns from masks that it will choose among, galleries of the segmenter, and from nothing else: most entities are too small for a mask of their own in a gallery, and
/// who has seen them alone doesn't know which larger mask has them inside.
/// </summary>
internal sealed class MiniClip
{
    private readonly TrainingMask[][] _studies;
    private readonly Tensor _texts;

    /// <param name="Picture">[S, S] grey values, black outside the mask.</param>
    /// <param name="Matches">IoU of mask and entity, per entity.</param>
    /// <param name="Asked">Whether the slice is of one of the entity's layers, per entity; where it is not, the mask is never asked about.</param>
    private sealed record TrainingMask(byte[] Picture, float[] Matches, bool[] Asked);

    private MiniClip(BpeTokenizer tokenizer, LabelledMask[][] studies, ClipConfig config)
    {
        var vocabulary = ClueVocabulary.Default;
        string[] entities = [.. vocabulary.Entities.Where(e => PhantomClueStudy.OrgansOf(e).Count > 0)];
        _studies = [.. studies.Where(masks => masks.Length > 0).Select(masks => Array.ConvertAll(masks, m => new TrainingMask(
            [.. m.Slice.Pixels.Select((v, p) => m.Mask[p] ? v : (byte)0)], Array.ConvertAll(entities, e => Match(m, e)),
            Array.ConvertAll(entities, e => vocabulary.LayersOf(e).Contains(m.Slice.Layer)))))];
        long[][] tokens = [.. entities.Select(e => ClipScorer.Tokens(vocabulary.PromptFor(e), tokenizer, config))];
        int longest = tokens.Max(t => t.Length);
        _texts = tensor(tokens.SelectMany(t => t.Concat(Enumerable.Repeat(t[^1], longest - t.Length))).ToArray()).view(tokens.Length, longest);
    }

    private static float Match(LabelledMask mask, string entity)
    {
        var organs = PhantomClueStudy.OrgansOf(entity);
        return (float)MaskGeometry.Iou(mask.Mask, Array.ConvertAll(mask.Slice.Organs, o => organs.Contains((Data.PhantomOrgan)o)));
    }

    /// <summary>Trains the model.</summary>
    public static void Fit(
        ClipModel clip, BpeTokenizer tokenizer, LabelledMask[][] studies, MiniCluesConfig config, Workers workers,
        IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        Initialise(clip);
        var task = new MiniClip(tokenizer, studies, config.Clip);
        ClipModel[] models = [clip, .. Enumerable.Range(1, workers.Count - 1).Select(_ => Replicate(clip))];
        ClipScorer[] scorers = [.. models.Select(m => new ClipScorer(m, tokenizer))]; // they only prepare pictures; the models stay ours
        Random[] randoms = [.. models.Select((_, i) => new Random(config.Seed + 100 + i))];
        foreach (var model in models)
            model.train();
        try
        {
            FitLoop.Run("retrieve", config.ClipFit, workers, [.. models.Select(m => (IReadOnlyList<Parameter>)[.. m.parameters()])],
                worker => task.Loss(models[worker], scorers[worker], FitLoop.Share(config.ClipFit, workers), randoms[worker]), progress, cancellation);
        }
        finally
        {
            task._texts.Dispose();
            foreach (var replica in models.Skip(1))
                replica.Dispose();
        }
        clip.eval();
    }

    /// <summary>As of the segmenter: weights that learn within minutes. Where a patch lies says more here than what is in it.</summary>
    private static void Initialise(ClipModel clip)
    {
        Initialisation.Widen(clip);
        using var nothing = no_grad();
        foreach (var (name, weight) in clip.named_parameters())
        {
            if (name == "vision_model.embeddings.position_embedding.weight")
                weight.normal_(0, 0.5);
        }
    }

    private static ClipModel Replicate(ClipModel clip)
    {
        var copy = new ClipModel(clip.Config);
        using var nothing = no_grad();
        foreach (var (to, from) in copy.parameters().Zip(clip.parameters()))
            to.copy_(from);
        return copy;
    }

    private Tensor Loss(ClipModel clip, ClipScorer scorer, int count, Random random)
    {
        using var scope = NewDisposeScope();
        var texts = clip.Texts(_texts);
        var each = random.GetItems(_studies, count).Select(masks =>
        {
            var pictures = scorer.Input([.. masks.Select(m => m.Picture)]);
            if (random.Next(2) == 0)
                pictures = pictures.flip(3); // entities have no side
            var matches = tensor(masks.SelectMany(m => m.Matches).ToArray()).view(masks.Length, -1);
            var asked = tensor(masks.SelectMany(m => m.Asked).ToArray()).view(masks.Length, -1);
            return Loss(ClipLoss.Logits(clip.Images(pictures), texts, clip.LogitScale), matches, asked);
        });
        return stack([.. each]).mean().MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Of every entity (column), the cross-entropy of the choice among the masks that it asks for, against their shares in the sum of its matches; entities without
    /// any don't count. All [masks, entities].
    /// </summary>
    internal static Tensor Loss(Tensor logits, Tensor matches, Tensor asked)
    {
        using var scope = NewDisposeScope();
        var wanted = matches * asked;
        var sum = wanted.sum(dim: 0); // a bare 0 would be a type
        var each = -(nn.functional.log_softmax(logits.masked_fill(asked.logical_not(), -1e4), 0) * wanted).sum(dim: 0) / sum.clamp_min(1e-6);
        return (each.sum() / sum.gt(0).sum().clamp_min(1)).MoveToOuterDisposeScope();
    }
}
