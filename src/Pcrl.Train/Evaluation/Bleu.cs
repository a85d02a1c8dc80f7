namespace Pcrl.Train.Evaluation;

/// <summary>
/// BLEU-1 to BLEU-4 as COCO's caption evaluation computes them: clipped n-gram precision, geometric mean, brevity penalty against the reference
/// whose length is closest, and its two tiny constants, which keep a text without any matching n-gram above zero.
/// </summary>
internal static class Bleu
{
    private const int Orders = NgramVocabulary.LongestOrder;
    private const double Tiny = 1e-15, Small = 1e-9;

    private static readonly string[] Names = ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4"];

    // Statistics of an item: matches of order 1..4, windows of order 1..4, length, closest reference length.
    private const int Width = 2 * Orders + 2;

    public static Measure Compute(NgramVocabulary vocabulary, IReadOnlyList<NgramCounts> hypotheses, IReadOnlyList<NgramCounts[]> references)
    {
        var statistics = new double[hypotheses.Count * Width];
        for (int i = 0; i < hypotheses.Count; i++)
        {
            var row = statistics.AsSpan(i * Width, Width);
            var hypothesis = hypotheses[i];
            for (int k = 0; k < hypothesis.Ids.Length; k++)
            {
                int most = references[i].Max(reference => CountOf(reference, hypothesis.Ids[k]));
                row[vocabulary.Order(hypothesis.Ids[k]) - 1] += Math.Min(hypothesis.Counts[k], most);
            }
            for (int order = 1; order <= Orders; order++)
                row[Orders + order - 1] = hypothesis.Windows(order);
            row[2 * Orders] = hypothesis.Length;
            row[2 * Orders + 1] = references[i].Select(r => r.Length).MinBy(length => (Math.Abs(length - hypothesis.Length), length));
        }
        return new Measure(Names, Width, statistics, Score);
    }

    private static int CountOf(NgramCounts text, int ngram)
    {
        int at = Array.BinarySearch(text.Ids, ngram);
        return at < 0 ? 0 : text.Counts[at];
    }

    private static void Score(ReadOnlySpan<double> sums, int items, Span<double> scores)
    {
        double ratio = (sums[2 * Orders] + Tiny) / (sums[2 * Orders + 1] + Small);
        double brevity = ratio < 1 ? Math.Exp(1 - 1 / ratio) : 1;
        double product = 1;
        for (int order = 1; order <= Orders; order++)
        {
            product *= (sums[order - 1] + Tiny) / (sums[Orders + order - 1] + Small);
            scores[order - 1] = Math.Pow(product, 1.0 / order) * brevity;
        }
    }
}
