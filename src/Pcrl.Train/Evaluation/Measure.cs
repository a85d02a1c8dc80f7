using System.Numerics.Tensors;

namespace Pcrl.Train.Evaluation;

/// <summary>Turns statistics summed over items into scores.</summary>
/// <param name="sums">The sums, as wide as one item's statistics.</param>
/// <param name="items">How many items were summed.</param>
/// <param name="scores">Receives one score per name of the measure.</param>
public delegate void ScoreRule(ReadOnlySpan<double> sums, int items, Span<double> scores);

/// <summary>
/// One or several related scores of a system, kept as statistics per item that add up: the score of any selection of items (all, one, a
/// bootstrap sample) is the rule applied to their sum. Means, corpus BLEU and F1 all fit this form.
/// </summary>
/// <param name="names">Names of the scores the rule gives.</param>
/// <param name="width">Numbers per item.</param>
/// <param name="statistics">[items, width], row-major.</param>
/// <param name="rule">From sums to scores.</param>
public sealed class Measure(IReadOnlyList<string> names, int width, double[] statistics, ScoreRule rule)
{
    /// <summary>Names of the scores, in the order the rule gives them.</summary>
    public IReadOnlyList<string> Names { get; } = names;

    /// <summary>Numbers per item.</summary>
    public int Width { get; } = width;

    /// <summary>How many items there are.</summary>
    public int Items { get; } = statistics.Length / width;

    /// <summary>The statistics of one item.</summary>
    public ReadOnlySpan<double> Item(int index) => statistics.AsSpan(index * Width, Width);

    /// <summary>The scores over all items.</summary>
    public double[] Total()
    {
        var sums = new double[Width];
        for (int i = 0; i < Items; i++)
            TensorPrimitives.Add(sums, Item(i), sums);
        return Score(sums, Items);
    }

    /// <summary>The scores of one item alone.</summary>
    public double[] OfItem(int index) => Score(Item(index), 1);

    /// <summary>The rule applied to sums.</summary>
    public double[] Score(ReadOnlySpan<double> sums, int items)
    {
        var scores = new double[Names.Count];
        rule(sums, items, scores);
        return scores;
    }

    /// <summary>A score that is the mean of one number per item.</summary>
    public static Measure Mean(string name, double[] perItem) =>
        new([name], 1, perItem, (sums, items, scores) => scores[0] = items == 0 ? 0 : sums[0] / items);
}
