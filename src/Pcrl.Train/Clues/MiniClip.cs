using Microsoft.ML.Tokenizers;
using Pcrl.Train.Data;
using Pcrl.Train.Fitting;
using Pcrl.Train.Models.Clip;
using Pcrl.Train.Torch;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Pcrl.Train.Clues;

/// <summary>Teaches a small CLIP which masked slice shows which entity.</summary>
internal sealed class MiniClip
{
    private readonly List<List<(TrainingSlice Slice, PhantomThing Thing)>> _byOrgan;
    private readonly string[] _entities;
    private readonly long[][] _tokens;

    private MiniClip(BpeTokenizer tokenizer, TrainingSlice[] slices, ClipConfig config)
    {
        var vocabulary = ClueVocabulary.Default;
        _entities = [.. vocabulary.Entities.Where(e => PhantomClueStudy.OrgansOf(e).Count > 0)];
        _tokens = [.. _entities.Select(e => ClipScorer.Tokens(vocabulary.PromptFor(e), tokenizer, config))];
        // Every organ as often as any other: sulci and lobes are on every slice, the sinuses on few.
        _byOrgan = [.. slices.SelectMany(s => s.Things.Where(t => !t.IsLesion).Select(t => (Slice: s, Thing: t)))
            .GroupBy(p => p.Thing.Organ).Select(g => g.ToList())];
    }

    /// <summary>Trains the model.</summary>
    public static void Fit(
        ClipModel clip, BpeTokenizer tokenizer, TrainingSlice[] slices, MiniCluesConfig config, Workers workers,
        IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var task = new MiniClip(tokenizer, slices, config.Clip);
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
            foreach (var replica in models.Skip(1))
                replica.Dispose();
        }
        clip.eval();
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
        int longest = _tokens.Max(t => t.Length);
        var ids = tensor(_tokens.SelectMany(t => t.Concat(Enumerable.Repeat(t[^1], longest - t.Length))).ToArray()).view(_tokens.Length, longest);
        var pictures = new List<byte[]>();
        var matches = new List<float>();
        for (int i = 0; i < count; i++)
        {
            var group = _byOrgan[random.Next(_byOrgan.Count)];
            var (slice, thing) = group[random.Next(group.Count)];
            pictures.Add([.. slice.Pixels.Select((v, p) => thing.Mask[p] ? v : (byte)0)]);
            matches.AddRange(_entities.Select(e => Matches(e, thing, slice.Layer) ? 1f : 0));
        }
        return Loss(ClipLoss.Logits(clip.Images(scorer.Input(pictures)), clip.Texts(ids), clip.LogitScale),
            tensor(matches.ToArray()).view(count, _entities.Length)).MoveToOuterDisposeScope();
    }

    private static bool Matches(string entity, PhantomThing thing, int layer) =>
        PhantomClueStudy.OrgansOf(entity).Contains(thing.Organ) && ClueVocabulary.Default.LayersOf(entity).Contains(layer);

    /// <summary>Cross-entropy both ways against all matching partners alike; rows and columns without any don't count.</summary>
    private static Tensor Loss(Tensor logits, Tensor matches)
    {
        using var scope = NewDisposeScope();
        Tensor OneWay(Tensor scores, Tensor wanted)
        {
            var count = wanted.sum(1);
            var each = -(nn.functional.log_softmax(scores, 1) * wanted).sum(1) / count.clamp_min(1);
            return each.sum() / count.gt(0).sum().clamp_min(1);
        }
        return ((OneWay(logits, matches) + OneWay(logits.t(), matches.t())) / 2).MoveToOuterDisposeScope();
    }
}
