using System.Globalization;
using System.Net;
using System.Text;
using Pcrl.Runtime;

namespace Pcrl.Train.Evaluation;

/// <summary>
/// The result as one HTML page that needs nothing else: the tables, then every case of the first system with its reference, entity words coloured,
/// words that the other text lacks underlined, and what was missed and invented. No script; every text from outside is escaped.
/// </summary>
public static class ResultPage
{
    private const string Style = """
        body{font:15px/1.5 system-ui,sans-serif;margin:2em auto;max-width:80em;padding:0 1em;color:#222;background:#fff}
        table{border-collapse:collapse;font-variant-numeric:tabular-nums}th,td{padding:.15em .7em;text-align:left;border-bottom:1px solid #ddd;white-space:nowrap}
        .scroll{overflow-x:auto}.ci{color:#777;font-size:.85em}.sig{font-weight:600}
        article{border:1px solid #ccc;border-radius:6px;margin:1em 0;padding:.6em 1em}article h3{margin:0;font-size:1em}
        .pair{display:grid;grid-template-columns:1fr 1fr;gap:1.5em}.pair p{margin:.3em 0;white-space:pre-wrap;overflow-wrap:anywhere}
        .both{background:#d9f2d9}.only{background:#ffd9d9}.lone{text-decoration:underline 2px #e0a000}
        .missed{color:#b00020}.invented{color:#a05a00}.right{color:#1a7f37}.note{color:#555}
        body:has(#wrong:checked) article.right-case{display:none}
        article{content-visibility:auto;contain-intrinsic-size:auto 12em}
        @media(max-width:45em){body{margin:1em auto}.pair{grid-template-columns:1fr;gap:.5em}th,td{padding:.15em .4em}}
        """;

    /// <summary>Writes the page.</summary>
    /// <param name="result">The result.</param>
    /// <param name="tokenisation">How words are cut for the comparison of a case's two texts.</param>
    /// <param name="path">The file.</param>
    /// <exception cref="InputException">The file cannot be written.</exception>
    public static void Write(EvaluationResult result, Tokenisation tokenisation, string path) => AtomicFile.Write(path, stream =>
    {
        using var html = new StreamWriter(stream, new UTF8Encoding(false), 1 << 16, leaveOpen: true);
        html.Write("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">");
        html.Write("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">");
        html.Write($"<title>Evaluation of {Escape(result.Systems[0].Name)}</title><style>{Style}</style></head><body>\n");
        html.Write($"<h1>Evaluation of {Escape(result.Systems[0].Name)}</h1>\n<p class=\"note\">{result.Cases.Ids.Count} cases. ");
        html.Write("Reports of models are unverified drafts, not for diagnosis. The definitions are in docs/evaluation.md.</p>\n");
        if (result.Cases.Mismatch is { } mismatch)
            html.Write($"<p class=\"missed\">Left out: {Escape(mismatch)}</p>\n");
        WriteScores(html, result);
        WriteEntities(html, result.Systems[0]);
        html.Write("<h2>Cases</h2>\n<p class=\"note\"><span class=\"both\">Entity</span> named in both texts, <span class=\"only\">entity</span> in one only; ");
        html.Write("<span class=\"lone\">underlined</span>: not in the longest common run of words. Findings are entity, side and kind.</p>\n");
        html.Write("<p><label><input type=\"checkbox\" id=\"wrong\"> only cases with missed or invented findings</label></p>\n");
        for (int i = 0; i < result.Cases.Ids.Count; i++)
            WriteCase(html, result, i, tokenisation);
        html.Write("</body></html>\n");
    });

    private static void WriteScores(TextWriter html, EvaluationResult result)
    {
        html.Write("<h2>Scores</h2>\n<p class=\"note\">Times 100");
        if (result.Resamples > 0)
            html.Write($"; in brackets the 95 % interval of {result.Resamples} bootstrap samples; bold: differs from {Escape(result.Systems[0].Name)} at p &lt; 0.05");
        html.Write(".</p>\n<div class=\"scroll\"><table><tr><th>Metric</th><th>Tokens</th>");
        foreach (var system in result.Systems)
            html.Write($"<th>{Escape(system.Name)}</th>");
        html.Write("</tr>\n");
        for (int k = 0; k < result.Systems[0].Scores.Count; k++)
        {
            html.Write($"<tr><td>{Escape(result.Systems[0].Scores[k].Name)}</td><td>{Escape(result.Systems[0].Scores[k].Tokens)}</td>");
            foreach (var system in result.Systems)
                WriteScore(html, system.Scores[k]);
            html.Write("</tr>\n");
        }
        WriteShares(html, "Distinct reports", result.Systems.Select(system => (double?)system.Distinct));
        if (result.ReferenceCopied is not null)
            WriteShares(html, "Copied from train", result.Systems.Select(system => system.Copied));
        html.Write($"</table></div>\n<p>References: {ResultTable.Percent(result.ReferenceDistinct)} % distinct");
        html.Write(result.ReferenceCopied is { } copied ? $", {ResultTable.Percent(copied)} % word for word in the training set.</p>\n" : ".</p>\n");
    }

    private static void WriteScore(TextWriter html, Score score)
    {
        html.Write($"<td{(score.Difference is { P: < 0.05 } ? " class=\"sig\"" : "")}>{ResultTable.Percent(score.Value)}");
        if (score.Interval is { } interval)
            html.Write($" <span class=\"ci\">[{ResultTable.Percent(interval.Low)} {ResultTable.Percent(interval.High)}]</span>");
        html.Write("</td>");
    }

    private static void WriteShares(TextWriter html, string name, IEnumerable<double?> shares)
    {
        html.Write($"<tr><td>{name}</td><td></td>");
        foreach (double? share in shares)
            html.Write($"<td>{(share is { } value ? ResultTable.Percent(value) : "")}</td>");
        html.Write("</tr>\n");
    }

    private static void WriteEntities(TextWriter html, SystemResult system)
    {
        html.Write("<h2>Entities</h2>\n<div class=\"scroll\"><table><tr><th>Entity</th><th></th><th>Cases</th><th>P</th><th>R</th><th>F1</th></tr>\n");
        foreach (var e in system.Entities)
        {
            html.Write($"<tr><td lang=\"zh\">{Escape(e.Entity)}</td><td>{Escape(e.English)}</td><td>{e.Support}</td>");
            html.Write($"<td>{ResultTable.Percent(e.Precision)}</td><td>{ResultTable.Percent(e.Recall)}</td><td>{ResultTable.Percent(e.F1)}</td></tr>\n");
        }
        html.Write("</table></div>\n");
    }

    private static void WriteCase(TextWriter html, EvaluationResult result, int index, Tokenisation tokenisation)
    {
        var system = result.Systems[0];
        string hypothesis = system.Hypotheses[index];
        var references = result.Cases.References[index];
        var comparison = CaseComparison.Of(hypothesis, references);
        bool right = comparison.MissedFindings.Count + comparison.InventedFindings.Count == 0;
        html.Write($"<article{(right ? " class=\"right-case\"" : "")}><h3>{Escape(result.Cases.Ids[index])}</h3><p class=\"note\">");
        html.Write(string.Join(" · ", Headline(system, index)));
        html.Write("</p><div class=\"pair\"><div><b>Reference</b>");
        foreach (string reference in references)
            html.Write($"<p lang=\"zh\">{MarkedText.Html(reference, hypothesis, tokenisation)}</p>");
        html.Write($"</div><div><b>{Escape(system.Name)}</b><p lang=\"zh\">{MarkedText.Html(hypothesis, references[0], tokenisation)}</p></div></div>");
        WriteList(html, "missed", "Missed entities", comparison.MissedEntities);
        WriteList(html, "invented", "Invented entities", comparison.InventedEntities);
        WriteList(html, "missed", "Missed findings", comparison.MissedFindings);
        WriteList(html, "invented", "Invented findings", comparison.InventedFindings);
        if (right)
            html.Write("<div class=\"right\">All findings agree.</div>");
        html.Write("</article>\n");
    }

    /// <summary>The few scores that say most about a case, under the first tokenisation.</summary>
    private static IEnumerable<string> Headline(SystemResult system, int index)
    {
        foreach (string name in (string[])["CE-F1-micro", "Findings-F1-micro", "BLEU-4", "ROUGE-L", "CIDEr"])
        {
            int k = system.Scores.ToList().FindIndex(score => score.Name == name);
            yield return string.Create(CultureInfo.InvariantCulture, $"{name} {100 * system.PerCase[index][k]:0.0}");
        }
    }

    private static void WriteList(TextWriter html, string style, string title, IReadOnlyList<string> items)
    {
        if (items.Count > 0)
            html.Write($"<div class=\"{style}\">{title}: {Escape(string.Join(", ", items))}</div>");
    }

    private static string Escape(string text) => MarkedText.Escape(text);
}
