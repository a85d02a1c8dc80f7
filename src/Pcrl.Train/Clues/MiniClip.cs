using Microsoft.ML.Tokenizers;
using Pcrl.Train.Data;
using Pcrl.Train.Fitting;
using Pcrl.Train.Models.Clip;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Clues;

/// <summary>Teaches a small CLIP which masked slice shows which entity.</summary>
internal static class MiniClip
{
    public static void Fit(
        ClipModel clip, BpeTokenizer tokenizer, List<MiniClues.TrainingSlice> slices, MiniCluesConfig config,
        IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var vocabulary = ClueVocabulary.Default;
        string[] entities = [.. vocabulary.Entities.Where(e => PhantomClueStudy.OrgansOf(e).Count > 0)];
        long[][] tokens = [.. entities.Select(e => ClipScorer.Tokens(vocabulary.PromptFor(e), tokenizer, config.Clip))];
        int longest = tokens.Max(t => t.Length);
        using var ids = tensor(tokens.SelectMany(t => t.Concat(Enumerable.Repeat(t[^1], longest - t.Length))).ToArray())
            .view(tokens.Length, longest).DetachFromDisposeScope();
        // Every organ as often as any other: sulci and lobes are on every slice, the sinuses on few.
        var byOrgan = slices.SelectMany(s => s.Things.Where(t => !t.IsLesion).Select(t => (Slice: s, Thing: t)))
            .GroupBy(p => p.Thing.Organ).Select(g => g.ToList()).ToList();
        var scorer = new ClipScorer(clip, tokenizer); // not disposed of: the model stays the caller's
        var random = new Random(config.Seed + 1);
        clip.train();
        using var workers = new Workers(1);
        FitLoop.Run("retrieve", config.ClipFit, workers, [[.. clip.parameters()]], _ =>
        {
            using var scope = NewDisposeScope();
            var pictures = new List<byte[]>();
            var matches = new List<float>();
            for (int i = 0; i < config.ClipFit.Batch; i++)
            {
                var group = byOrgan[random.Next(byOrgan.Count)];
                var (slice, thing) = group[random.Next(group.Count)];
                pictures.Add([.. slice.Pixels.Select((v, p) => thing.Mask[p] ? v : (byte)0)]);
                matches.AddRange(entities.Select(e => Matches(e, thing, slice.Layer, vocabulary) ? 1f : 0));
            }
            return Loss(ClipLoss.Logits(clip.Images(scorer.Input(pictures)), clip.Texts(ids), clip.LogitScale),
                tensor(matches.ToArray()).view(pictures.Count, entities.Length)).MoveToOuterDisposeScope();
        }, progress, cancellation);
        clip.eval();
    }

    private static bool Matches(string entity, PhantomThing thing, int layer, ClueVocabulary vocabulary) =>
        PhantomClueStudy.OrgansOf(entity).Contains(thing.Organ) && vocabulary.LayersOf(entity).Contains(layer);

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
