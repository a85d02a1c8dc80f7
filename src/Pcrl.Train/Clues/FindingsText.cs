using System.Text;

namespace Pcrl.Train.Clues;

/// <summary>The clauses of a findings text that name one entity.</summary>
/// <param name="Entity">Chinese name.</param>
/// <param name="Text">Its clauses without their closing punctuation, joined by ；</param>
public sealed record EntityClue(string Entity, string Text);

/// <summary>What a findings text gives to representation learning (docs/clues.md).</summary>
/// <param name="Theme">The whole cleaned text; empty if nothing of it concerns the head.</param>
/// <param name="Entities">One clue for every entity named, in the vocabulary's order.</param>
public sealed record TextClues(string Theme, IReadOnlyList<EntityClue> Entities);

/// <summary>Turns findings as they were typed into clues.</summary>
public static class FindingsText
{
    private const string ClauseEnds = "。；，;,\r\n"; // the last four only in texts that weren't cleaned

    /// <summary>Cleans the findings and finds the clauses of every entity. Empty findings give an empty theme and no entities.</summary>
    public static TextClues Clues(string findings, ClueVocabulary vocabulary)
    {
        string theme = Clean(findings, vocabulary);
        var clauses = new Dictionary<string, List<string>>();
        foreach (var (clause, _) in Split(theme))
        {
            foreach (string entity in vocabulary.InClause(clause).Select(number => vocabulary.Entities[number]))
            {
                if (!clauses.TryGetValue(entity, out var list))
                    clauses[entity] = list = [];
                if (!list.Contains(clause))
                    list.Add(clause);
            }
        }
        return new TextClues(theme,
            [.. vocabulary.Entities.Where(clauses.ContainsKey).Select(e => new EntityClue(e, string.Join('；', clauses[e])))]);
    }

    /// <summary>
    /// The text in simplified characters with full-width punctuation, typing errors mended, without headings and without the clauses that
    /// name organs outside the head.
    /// </summary>
    public static string Clean(string findings, ClueVocabulary vocabulary)
    {
        string text = Normalise(findings, vocabulary);
        foreach (var pair in vocabulary.Corrections)
            text = text.Replace(pair[0], pair[1], StringComparison.Ordinal);
        // A heading may stand anywhere: some sites head every paragraph.
        foreach (string heading in vocabulary.Headings)
            text = text.Replace(heading, "", StringComparison.Ordinal);
        var kept = new StringBuilder(text.Length);
        foreach (var (clause, end) in Split(text))
        {
            if (!vocabulary.OutsideHead.Any(word => clause.Contains(word, StringComparison.Ordinal)))
                kept.Append(clause).Append(end);
            else if (end == '。' && kept.Length > 0)
                kept[^1] = '。'; // the clause before now ends the sentence
        }
        return kept.ToString();
    }

    /// <summary>Clauses with the mark that closes each; empty ones are left out. The last one of an unfinished text is closed by 。</summary>
    public static IEnumerable<(string Clause, char End)> Split(string text)
    {
        int start = 0;
        for (int i = 0; i <= text.Length; i++)
        {
            if (i < text.Length && !ClauseEnds.Contains(text[i]))
                continue;
            if (i > start)
                yield return (text[start..i], i < text.Length ? text[i] : '。');
            start = i + 1;
        }
    }

    /// <summary>One spelling for everything that is typed in several ways: width, traditional forms, white space, clause marks.</summary>
    private static string Normalise(string findings, ClueVocabulary vocabulary)
    {
        var text = new StringBuilder(findings.Length);
        for (int i = 0; i < findings.Length; i++)
        {
            char c = findings[i];
            if (c is >= '０' and <= '９' or >= 'Ａ' and <= 'Ｚ' or >= 'ａ' and <= 'ｚ' or '＋' or '－' or '％' or '／' or '＜' or '＞' or '＝')
                c = (char)(c - '！' + '!');
            bool insideNumber = i > 0 && i + 1 < findings.Length && IsDigit(findings[i - 1]) && IsDigit(findings[i + 1]);
            switch (c)
            {
                case '．' or '.':
                    text.Append(insideNumber ? '.' : '。');
                    break;
                case '｡' or '！' or '!' or '？' or '?' or '\n':
                    text.Append('。');
                    break;
                case ',' or '､':
                    text.Append('，');
                    break;
                case ';':
                    text.Append('；');
                    break;
                case ':':
                    text.Append('：');
                    break;
                default:
                    if (!char.IsWhiteSpace(c) && !char.IsControl(c) && c is not ('\uFEFF' or '\u200B'))
                        text.Append(vocabulary.Simplified.TryGetValue(c.ToString(), out string? simple) ? simple[0] : c);
                    break;
            }
        }
        return text.ToString();
    }

    private static bool IsDigit(char c) => c is >= '0' and <= '9' or >= '０' and <= '９';
}
