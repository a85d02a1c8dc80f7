using System.Collections.Concurrent;

namespace Pcrl.Train.Evaluation;

/// <summary>
/// METEOR 1.5 with its English ranking parameters, matching equal words only: its stems, synonyms and paraphrases are English resources and match no
/// Chinese word. Of several references the best-scoring one counts.
/// </summary>
internal sealed class Meteor
{
    private const double Alpha = 0.85, Beta = 0.2, Gamma = 0.6, Delta = 0.75;

    // Statistics of an item: lengths, function words, matches, function matches, chunks, and the score of the item itself.
    private const int Width = 8;

    private readonly string[] _names;
    private readonly NgramVocabulary _vocabulary = new();
    private readonly List<bool> _isFunction = [];
    private readonly ConcurrentDictionary<(string Hypothesis, string Reference), MeteorCounts> _known;
    private readonly string[][][] _references;
    private readonly int[][][] _referenceIds;

    /// <param name="name">Name of the variant; the mean over items gets it with <c>-mean</c>.</param>
    /// <param name="references">Words of the references of every case, lower-case.</param>
    /// <param name="known">Alignments found before, by the words of both texts: variants and tokenisations often come to the same words.</param>
    public Meteor(string name, IReadOnlyList<string[][]> references, ConcurrentDictionary<(string Hypothesis, string Reference), MeteorCounts> known)
    {
        _known = known;
        _names = [name, name + "-mean"];
        _references = [.. references];
        _referenceIds = [.. references.Select(texts => texts.Select(Ids).ToArray())];
    }

    public Measure Compute(IReadOnlyList<string[]> hypotheses, CancellationToken cancellation)
    {
        int[][] ids = [.. hypotheses.Select(Ids)];
        var statistics = new double[hypotheses.Count * Width];
        Parallel.For(0, ids.Length, new ParallelOptions { CancellationToken = cancellation }, i =>
        {
            var row = statistics.AsSpan(i * Width, Width);
            row[Width - 1] = -1;
            Span<double> candidate = stackalloc double[Width];
            string text = string.Join(' ', hypotheses[i]);
            for (int r = 0; r < _references[i].Length; r++)
            {
                int[] reference = _referenceIds[i][r];
                var counts = _known.GetOrAdd((text, string.Join(' ', _references[i][r])), _ => MeteorAligner.Align(ids[i], reference, id => _isFunction[id]));
                Fill(candidate, counts);
                if (candidate[Width - 1] > row[Width - 1])
                    candidate.CopyTo(row);
            }
        });
        return new Measure(_names, Width, statistics, Score);
    }

    private int[] Ids(string[] words)
    {
        int[] ids = _vocabulary.Tokens(words);
        for (int i = 0; i < ids.Length; i++)
        {
            if (ids[i] == _isFunction.Count)
                _isFunction.Add(MeteorText.IsFunctionWord(words[i]));
        }
        return ids;
    }

    private static void Fill(Span<double> row, MeteorCounts c)
    {
        bool perfect = c.Matches == c.Length && c.Matches == c.ReferenceLength && c.Chunks == 1;
        row[0] = c.Length;
        row[1] = c.ReferenceLength;
        row[2] = c.FunctionWords;
        row[3] = c.ReferenceFunctionWords;
        row[4] = c.Matches;
        row[5] = c.FunctionMatches;
        row[6] = perfect ? 0 : c.Chunks; // METEOR sums no chunk for a text that agrees as a whole
        row[7] = FromSums(row);
    }

    private static void Score(ReadOnlySpan<double> sums, int items, Span<double> scores)
    {
        scores[0] = FromSums(sums);
        scores[1] = items == 0 ? 0 : sums[7] / items;
    }

    private static double FromSums(ReadOnlySpan<double> s)
    {
        double matches = Weighted(s[4] - s[5], s[5]);
        double precision = matches / Weighted(s[0] - s[2], s[2]), recall = matches / Weighted(s[1] - s[3], s[3]);
        double mean = 1 / ((1 - Alpha) / precision + Alpha / recall);
        double penalty = Gamma * Math.Pow(s[6] / s[4], Beta);
        double score = mean * (1 - penalty);
        return double.IsNaN(score) ? 0 : Math.Max(score, 0);
    }

    private static double Weighted(double content, double function) => Delta * content + (1 - Delta) * function;
}
