using System.Net;
using System.Text;
using Pcrl.Train.Clues;

namespace Pcrl.Train.Evaluation;

/// <summary>A report as HTML, with its entity words and its differences from another report marked.</summary>
internal static class MarkedText
{
    /// <summary>Escapes a text for HTML; control characters become visible.</summary>
    public static string Escape(string text) => WebUtility.HtmlEncode(
        string.Concat(text.Select(c => char.IsControl(c) && c is not ('\n' or '\t') ? '\uFFFD' : c)));

    /// <summary>Marks <paramref name="text"/> against <paramref name="other"/>.</summary>
    public static string Html(string text, string other, Tokenisation tokenisation)
    {
        bool[] lone = NotInCommon(text, other, tokenisation);
        string[] style = Enumerable.Repeat("", text.Length).ToArray();
        var vocabulary = ClueVocabulary.Default;
        var inOther = vocabulary.InText(other);
        foreach (int entity in vocabulary.InText(text).OrderBy(e => vocabulary.Entities[e].Length)) // longer names paint over shorter ones
        {
            string name = vocabulary.Entities[entity];
            for (int at = text.IndexOf(name, StringComparison.Ordinal); at >= 0; at = text.IndexOf(name, at + name.Length, StringComparison.Ordinal))
                Array.Fill(style, inOther.Contains(entity) ? "both" : "only", at, name.Length);
        }
        for (int i = 0; i < text.Length; i++)
            style[i] = lone[i] ? $"{style[i]} lone".Trim() : style[i];

        var html = new StringBuilder();
        for (int start = 0, end; start < text.Length; start = end)
        {
            end = start + 1;
            while (end < text.Length && style[end] == style[start])
                end++;
            string part = Escape(text[start..end]);
            html.Append(style[start].Length == 0 ? part : $"<span class=\"{style[start]}\">{part}</span>");
        }
        return html.ToString();
    }

    /// <summary>Which characters belong to words outside the longest common subsequence of words.</summary>
    private static bool[] NotInCommon(string text, string other, Tokenisation tokenisation)
    {
        string[] a = tokenisation.Cut(text), b = tokenisation.Cut(other);
        var length = new int[a.Length + 1, b.Length + 1];
        for (int i = a.Length - 1; i >= 0; i--)
        {
            for (int j = b.Length - 1; j >= 0; j--)
                length[i, j] = a[i] == b[j] ? length[i + 1, j + 1] + 1 : Math.Max(length[i + 1, j], length[i, j + 1]);
        }
        var lone = new bool[text.Length];
        int at = 0;
        for (int i = 0, j = 0; i < a.Length; i++)
        {
            while (j < b.Length && a[i] != b[j] && length[i, j + 1] >= length[i + 1, j])
                j++;
            bool common = j < b.Length && a[i] == b[j];
            at = text.IndexOf(a[i], at, StringComparison.Ordinal);
            if (common)
                j++;
            else
                Array.Fill(lone, true, at, a[i].Length);
            at += a[i].Length;
        }
        return lone;
    }
}
