using System.Globalization;
using System.Text;

namespace Pcrl.Train.Evaluation;

/// <summary>A row of an ablation.</summary>
/// <param name="Name">Name of the variant.</param>
/// <param name="Description">Which losses it has.</param>
/// <param name="Seeds">Its scores, seed by seed.</param>
public sealed record AblationRow(string Name, string Description, IReadOnlyList<ReportScore> Seeds);

/// <summary>The paper's Table 2, in percent (CIDEr times 100 of its 0..10), mean ± standard deviation over the seeds. CE-F1 is the mean over the entities.</summary>
public sealed record AblationTable(IReadOnlyList<AblationRow> Rows)
{
    private static readonly (string Name, Func<ReportScore, double> Value)[] Columns =
    [
        ("B1", s => s.Bleu1), ("B2", s => s.Bleu2), ("B3", s => s.Bleu3), ("B4", s => s.Bleu4), ("M", s => s.Meteor), ("RG", s => s.RougeL), ("C", s => s.Cider),
        ("CE-F1", s => s.CeF1Macro), ("CE-F1 micro", s => s.CeF1), ("findings F1", s => s.FindingsF1), ("main lesion", s => s.MainLesion), ("any lesion", s => s.AnyLesion),
    ];

    /// <summary>The table as Markdown.</summary>
    public string ToMarkdown()
    {
        var text = new StringBuilder("| row | losses |");
        foreach (var (name, _) in Columns)
            text.Append($" {name} |");
        text.Append("\n|---|---|").Insert(text.Length, "---|", Columns.Length).Append('\n');
        foreach (var row in Rows.Where(r => r.Seeds.Count > 0))
        {
            text.Append($"| {row.Name} | {row.Description} |");
            foreach (var (_, value) in Columns)
                text.Append($" {Cell([.. row.Seeds.Select(value)])} |");
            text.Append('\n');
        }
        return text.ToString();
    }

    private static string Cell(double[] values)
    {
        double mean = values.Average();
        string text = (100 * mean).ToString("0.0", CultureInfo.InvariantCulture);
        if (values.Length < 2)
            return text;
        double deviation = Math.Sqrt(values.Sum(v => (v - mean) * (v - mean)) / (values.Length - 1));
        return text + " ± " + (100 * deviation).ToString("0.0", CultureInfo.InvariantCulture);
    }
}
