using Pcrl.Train.Clues;

namespace Pcrl.Train.Evaluation;

/// <summary>
/// Precision, recall and F1 of what reports name (entities) or state (findings). Micro: over all mentions of all cases. Macro: the mean over the labels
/// (entities, or kinds of lesion) that occur on either side.
/// </summary>
public static class ClinicalEfficacy
{
    // Statistics of an item per label: right, wrong and missed mentions.
    private const int PerLabel = 3;

    /// <summary>CE over the entity keywords; with several references an entity counts that any of them names.</summary>
    /// <param name="hypotheses">One text per case.</param>
    /// <param name="references">The references per case.</param>
    public static Measure Entities(IReadOnlyList<string> hypotheses, IReadOnlyList<IReadOnlyList<string>> references)
    {
        var vocabulary = ClueVocabulary.Default;
        return Compare("CE", vocabulary.Entities.Count, entity => entity,
            [.. hypotheses.Select(vocabulary.InText)], [.. references.Select(r => Union(r, vocabulary.InText))]);
    }

    /// <summary>The stricter CE: entity, side and kind of lesion must all be right; negated statements state nothing.</summary>
    /// <param name="hypotheses">One text per case.</param>
    /// <param name="references">The references per case.</param>
    public static Measure Findings(IReadOnlyList<string> hypotheses, IReadOnlyList<IReadOnlyList<string>> references)
    {
        var parser = FindingParser.Default;
        return Compare("Findings", parser.Kinds.Count, finding => finding.Kind, [.. hypotheses.Select(parser.Parse)], [.. references.Select(r => Union(r, parser.Parse))]);
    }

    /// <summary>Precision, recall and F1 of one label in a measure of this class, and in how many cases' references it stands.</summary>
    public static (double Precision, double Recall, double F1, int Support) OfLabel(Measure measure, int label)
    {
        Span<double> sums = stackalloc double[PerLabel];
        sums.Clear();
        for (int i = 0; i < measure.Items; i++)
        {
            for (int k = 0; k < PerLabel; k++)
                sums[k] += measure.Item(i)[label * PerLabel + k];
        }
        var (precision, recall, f1) = Rates(sums);
        return (precision, recall, f1, (int)(sums[0] + sums[2]));
    }

    /// <summary>What any of several texts hold.</summary>
    internal static HashSet<T> Union<T>(IReadOnlyList<string> texts, Func<string, HashSet<T>> parse) => [.. texts.SelectMany(parse)];

    private static Measure Compare<T>(string name, int labels, Func<T, int> label, HashSet<T>[] hypotheses, HashSet<T>[] references)
    {
        int width = labels * PerLabel;
        var statistics = new double[hypotheses.Length * width];
        for (int i = 0; i < hypotheses.Length; i++)
        {
            var row = statistics.AsSpan(i * width, width);
            foreach (T item in hypotheses[i])
                row[label(item) * PerLabel + (references[i].Contains(item) ? 0 : 1)]++;
            foreach (T item in references[i])
            {
                if (!hypotheses[i].Contains(item))
                    row[label(item) * PerLabel + 2]++;
            }
        }
        string[] names = [.. ((string[])["micro", "macro"]).SelectMany(average => ((string[])["P", "R", "F1"]).Select(rate => $"{name}-{rate}-{average}"))];
        return new Measure(names, width, statistics, Score);
    }

    private static void Score(ReadOnlySpan<double> sums, int items, Span<double> scores)
    {
        Span<double> all = stackalloc double[PerLabel];
        all.Clear();
        double precisions = 0, recalls = 0, f1s = 0;
        int occurring = 0;
        for (int at = 0; at < sums.Length; at += PerLabel)
        {
            var label = sums.Slice(at, PerLabel);
            if (label[0] + label[1] + label[2] == 0)
                continue;
            occurring++;
            var (p, r, f) = Rates(label);
            precisions += p;
            recalls += r;
            f1s += f;
            for (int k = 0; k < PerLabel; k++)
                all[k] += label[k];
        }
        (scores[0], scores[1], scores[2]) = Rates(all);
        (scores[3], scores[4], scores[5]) = occurring == 0 ? (0, 0, 0) : (precisions / occurring, recalls / occurring, f1s / occurring);
    }

    /// <summary>A rate whose denominator is 0 is 0.</summary>
    private static (double Precision, double Recall, double F1) Rates(ReadOnlySpan<double> counts)
    {
        double right = counts[0], precision = right == 0 ? 0 : right / (right + counts[1]), recall = right == 0 ? 0 : right / (right + counts[2]);
        return (precision, recall, right == 0 ? 0 : 2 * precision * recall / (precision + recall));
    }
}
