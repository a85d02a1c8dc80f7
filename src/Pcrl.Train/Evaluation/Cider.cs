namespace Pcrl.Train.Evaluation;

/// <summary>
/// CIDEr as COCO's caption evaluation computes it: TF-IDF vectors of 1- to 4-grams, clipped cosine, Gaussian length penalty with σ = 6, times 10. Document
/// frequencies come from the references of the evaluated set: the score of a case depends on which other cases are in the set.
/// </summary>
internal sealed class Cider
{
    private const int Orders = NgramVocabulary.LongestOrder;
    private const double Sigma = 6;

    private readonly NgramVocabulary _vocabulary;
    private readonly Dictionary<int, int> _frequency = []; // n-gram → in the references of how many cases it stands
    private readonly double _logCases;
    private readonly Vector[][] _references;

    /// <summary>TF-IDF weights by ascending n-gram id, the squared norm per order, and the number of bigrams: what the penalty calls length.</summary>
    private readonly record struct Vector(int[] Ids, double[] Weights, double[] Norms, int Length);

    public Cider(NgramVocabulary vocabulary, IReadOnlyList<NgramCounts[]> references)
    {
        _vocabulary = vocabulary;
        _logCases = Math.Log(references.Count);
        foreach (var texts in references)
        {
            foreach (int ngram in texts.SelectMany(t => t.Ids).Distinct())
                _frequency[ngram] = _frequency.GetValueOrDefault(ngram) + 1;
        }
        _references = [.. references.Select(texts => texts.Select(ToVector).ToArray())];
    }

    public Measure Compute(IReadOnlyList<NgramCounts> hypotheses)
    {
        var scores = new double[hypotheses.Count];
        for (int i = 0; i < scores.Length; i++)
        {
            var hypothesis = ToVector(hypotheses[i]);
            scores[i] = 10 * _references[i].Average(reference => Similarity(hypothesis, reference));
        }
        return Measure.Mean("CIDEr", scores);
    }

    private Vector ToVector(NgramCounts text)
    {
        var weights = new double[text.Ids.Length];
        var norms = new double[Orders];
        for (int k = 0; k < weights.Length; k++)
        {
            double idf = _logCases - Math.Log(Math.Max(1, _frequency.GetValueOrDefault(text.Ids[k])));
            weights[k] = text.Counts[k] * idf;
            norms[_vocabulary.Order(text.Ids[k]) - 1] += weights[k] * weights[k];
        }
        return new Vector(text.Ids, weights, norms, text.Windows(order: 2));
    }

    private double Similarity(Vector hypothesis, Vector reference)
    {
        Span<double> products = stackalloc double[Orders];
        products.Clear();
        for (int h = 0, r = 0; h < hypothesis.Ids.Length && r < reference.Ids.Length;)
        {
            int order = hypothesis.Ids[h].CompareTo(reference.Ids[r]);
            if (order == 0)
            {
                products[_vocabulary.Order(hypothesis.Ids[h]) - 1] += Math.Min(hypothesis.Weights[h], reference.Weights[r]) * reference.Weights[r];
                h++;
                r++;
            }
            else if (order < 0)
                h++;
            else
                r++;
        }
        double sum = 0;
        for (int k = 0; k < Orders; k++)
        {
            double norms = Math.Sqrt(hypothesis.Norms[k]) * Math.Sqrt(reference.Norms[k]);
            sum += norms > 0 ? products[k] / norms : products[k];
        }
        double difference = hypothesis.Length - reference.Length;
        return sum / Orders * Math.Exp(-difference * difference / (2 * Sigma * Sigma));
    }
}
