using System.Globalization;
using System.Text;

namespace Pcrl.Train.Evaluation;

/// <summary>The result for a terminal: one row per score, one column per system, in percent as papers print them.</summary>
public static class ResultTable
{
    private const double Significant = 0.05;

    /// <summary>Writes the tables.</summary>
    public static void Write(EvaluationResult result, TextWriter output)
    {
        output.WriteLine($"{result.Cases.Ids.Count} cases{(result.Cases.Mismatch is { } mismatch ? $"; left out: {mismatch}" : "")}");
        output.WriteLine(Line($"all values times 100{(result.Resamples > 0 ? $", [95 % interval of {result.Resamples} bootstrap samples], * differs from {result.Systems[0].Name} at p < {Significant:0.00}" : "")}"));
        output.WriteLine();
        var rows = new List<string[]> { ((string[])["", "tokens"]).Concat(result.Systems.Select(system => system.Name)).ToArray() };
        for (int k = 0; k < result.Systems[0].Scores.Count; k++)
        {
            var score = result.Systems[0].Scores[k];
            rows.Add([score.Name, score.Tokens, .. result.Systems.Select(system => Cell(system.Scores[k]))]);
        }
        rows.Add(["distinct reports", "", .. result.Systems.Select(system => Percent(system.Distinct))]);
        if (result.ReferenceCopied is not null)
            rows.Add(["copied from train", "", .. result.Systems.Select(system => Percent(system.Copied ?? 0))]);
        Print(rows, output);
        output.WriteLine();
        output.WriteLine($"References: {Percent(result.ReferenceDistinct)} distinct{(result.ReferenceCopied is { } copied ? $", {Percent(copied)} word for word in the training set" : "")}");
        output.WriteLine();
        output.WriteLine($"CE per entity, {result.Systems[0].Name}");
        List<string[]> entities = [["entity", "cases", "P", "R", "F1", ""]];
        entities.AddRange(result.Systems[0].Entities.Select(e => (string[])
            [e.English, e.Support.ToString(CultureInfo.InvariantCulture), Percent(e.Precision), Percent(e.Recall), Percent(e.F1), e.Entity]));
        Print(entities, output);
    }

    /// <summary>A share in percent with one decimal.</summary>
    internal static string Percent(double share) => (100 * share).ToString("0.0", CultureInfo.InvariantCulture);

    internal static string Cell(Score score)
    {
        var text = new StringBuilder(Percent(score.Value));
        if (score.Interval is { } interval)
            text.Append($" [{Percent(interval.Low)} {Percent(interval.High)}]");
        if (score.Difference is { } difference)
            text.Append(difference.P < Significant ? '*' : ' ');
        return text.ToString();
    }

    private static string Line(FormattableString text) => text.ToString(CultureInfo.InvariantCulture);

    private static void Print(List<string[]> rows, TextWriter output)
    {
        int[] widths = [.. Enumerable.Range(0, rows[0].Length).Select(column => rows.Max(row => row[column].Length))];
        foreach (string[] row in rows)
            output.WriteLine(string.Join("  ", row.Select((cell, column) => cell.PadRight(widths[column]))).TrimEnd());
    }
}
