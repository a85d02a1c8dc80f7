using Pcrl.Train.Checkpoints;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Evaluation;

/// <summary>Asks a language model how likely its text is to begin with a sentence of a kind, whatever the wording.</summary>
internal static class FirstSentence
{
    /// <summary>Beginnings that are followed at a time. What falls out is less likely than all of these.</summary>
    public const int Width = 16;

    /// <summary>Longest sentence; a longer one counts for neither side.</summary>
    private const int MostTokens = 32;

    /// <summary>
    /// Probability that the first sentence (up to 。 or the end of the text) is one that <paramref name="isSo"/> holds for, among all sentences that a search over
    /// the <see cref="Width"/> likeliest beginnings of each length came to the end of.
    /// </summary>
    /// <param name="next">Log probabilities of the next token, a row per beginning; all beginnings are of one length.</param>
    /// <param name="decode">Token ids to text.</param>
    /// <param name="endToken">Ends a text.</param>
    /// <param name="isSo">Judges a sentence without its full stop.</param>
    /// <returns>0 to 1; one half when no sentence came to its end.</returns>
    public static double Probability(
        Func<IReadOnlyList<int[]>, float[][]> next, Func<IReadOnlyList<int>, string> decode, int endToken, Func<string, bool> isSo)
    {
        List<(int[] Ids, double Log)> open = [([], 0)];
        double yes = 0, all = 0;
        for (int length = 0; length < MostTokens && open.Count > 0; length++)
        {
            float[][] rows = next([.. open.Select(o => o.Ids)]);
            var longer = open.SelectMany((o, i) => rows[i].Select((log, id) => (o.Ids, Id: id, Log: o.Log + log)))
                .OrderByDescending(c => c.Log).Take(2 * Width).ToList(); // finished ones must not crowd out the others
            open = [];
            foreach (var (before, id, log) in longer)
            {
                int[] ids = id == endToken ? before : [.. before, id];
                string text = decode(ids);
                int stop = text.IndexOf('。');
                if (stop < 0 && id != endToken)
                {
                    if (open.Count < Width) open.Add((ids, log));
                    continue;
                }
                all += Math.Exp(log);
                if (isSo(stop < 0 ? text : text[..stop])) yes += Math.Exp(log);
            }
        }
        return all > 0 ? yes / all : 0.5;
    }

    /// <summary>The same of the report on one study.</summary>
    /// <param name="run">The model, in evaluation mode.</param>
    /// <param name="visual">Visual tokens [1, T, D].</param>
    /// <param name="isSo">Judges a sentence without its full stop.</param>
    public static double Probability(TrainedRun run, Tensor visual, Func<string, bool> isSo)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var llama = run.Model.Language;
        var prompt = run.Prompt.Embed(llama, visual);
        float[][] Next(IReadOnlyList<int[]> beginnings)
        {
            using var step = NewDisposeScope();
            var input = prompt.expand(beginnings.Count, -1, -1);
            if (beginnings[0].Length > 0)
            {
                var ids = tensor(beginnings.SelectMany(b => b.Select(id => (long)id)).ToArray()).view(beginnings.Count, -1);
                input = cat([input, llama.Embed(ids)], dim: 1);
            }
            var hidden = llama.Hidden(input);
            var logs = llama.Logits(hidden.select(1, hidden.shape[1] - 1)).log_softmax(1).contiguous(); // [B, V]
            return [.. Weights.Floats(logs).Chunk((int)logs.shape[1])];
        }
        return Probability(Next, run.Tokenizer.Decode, run.Tokenizer.Data.EosId, isSo);
    }
}
