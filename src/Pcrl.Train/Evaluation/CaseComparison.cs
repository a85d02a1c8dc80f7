using Pcrl.Train.Clues;

namespace Pcrl.Train.Evaluation;

/// <summary>What one hypothesis misses and invents against its references, in words.</summary>
public sealed record CaseComparison(
    IReadOnlyList<string> MissedEntities, IReadOnlyList<string> InventedEntities, IReadOnlyList<string> MissedFindings, IReadOnlyList<string> InventedFindings)
{
    /// <summary>Compares a hypothesis with what any of its references names or states.</summary>
    public static CaseComparison Of(string hypothesis, IReadOnlyList<string> references)
    {
        var vocabulary = ClueVocabulary.Default;
        var parser = FindingParser.Default;
        var (missed, invented) = Differences(
            vocabulary.InText(hypothesis), ClinicalEfficacy.Union(references, vocabulary.InText), entity => vocabulary.Entities[entity]);
        var (missedFindings, inventedFindings) = Differences(parser.Parse(hypothesis), ClinicalEfficacy.Union(references, parser.Parse), parser.Describe);
        return new CaseComparison(missed, invented, missedFindings, inventedFindings);
    }

    private static (string[] Missed, string[] Invented) Differences<T>(HashSet<T> hypothesis, HashSet<T> reference, Func<T, string> describe) =>
        ([.. reference.Except(hypothesis).Select(describe).Order(StringComparer.Ordinal)], [.. hypothesis.Except(reference).Select(describe).Order(StringComparer.Ordinal)]);
}
