using System.Globalization;
using System.Text;

namespace Pcrl.Train.Text;

/// <summary>
/// Cuts a text as <see cref="TokenizerData.SplitPattern"/> says, code point by code point. (.NET's expressions see two surrogates where
/// there is one letter outside the Basic Multilingual Plane.)
/// </summary>
internal static class TextSplitter
{
    private enum Kind { Other, Letter, Number, Space, End }

    /// <summary>The pieces of a text, in order and without gaps.</summary>
    public static IEnumerable<string> Split(string text)
    {
        Rune[] runes = [.. text.EnumerateRunes()];
        for (int start = 0; start < runes.Length;)
        {
            int end = EndOfPiece(runes, start);
            var piece = new StringBuilder();
            for (; start < end; start++)
                piece.Append(runes[start].ToString());
            yield return piece.ToString();
        }
    }

    private static int EndOfPiece(Rune[] text, int at)
    {
        int end = EndOfContraction(text, at);
        if (end > at)
            return end;
        var kind = KindAt(text, at);
        // [^\r\n\p{L}\p{N}]?\p{L}+
        if (kind == Kind.Letter || (kind != Kind.Number && !IsLineBreak(text, at) && KindAt(text, at + 1) == Kind.Letter))
            return EndOfRun(text, at + 1, Kind.Letter);
        // \p{N}{1,3}
        if (kind == Kind.Number)
            return Math.Min(at + 3, EndOfRun(text, at, Kind.Number));
        // ?[^\s\p{L}\p{N}]+[\r\n]*
        int mark = text[at].Value == ' ' ? at + 1 : at;
        if (KindAt(text, mark) == Kind.Other)
        {
            end = EndOfRun(text, mark, Kind.Other);
            while (IsLineBreak(text, end))
                end++;
            return end;
        }
        return EndOfSpaces(text, at);
    }

    /// <summary>(?i:'s|'t|'re|'ve|'m|'ll|'d)</summary>
    private static int EndOfContraction(Rune[] text, int at)
    {
        char Lower(int i) => i < text.Length && text[i].IsAscii ? char.ToLowerInvariant((char)text[i].Value) : '\0';
        if (Lower(at) != '\'')
            return at;
        return (Lower(at + 1), Lower(at + 2)) switch
        {
            ('s' or 't' or 'm' or 'd', _) => at + 2,
            ('r', 'e') or ('v', 'e') or ('l', 'l') => at + 3,
            _ => at,
        };
    }

    /// <summary>\s*[\r\n]+|\s+(?!\S)|\s+</summary>
    private static int EndOfSpaces(Rune[] text, int at)
    {
        int end = EndOfRun(text, at, Kind.Space);
        for (int last = end - 1; last >= at; last--)
        {
            if (IsLineBreak(text, last))
                return last + 1;
        }
        // The last space before a word belongs to the word.
        return end < text.Length && end - at > 1 ? end - 1 : end;
    }

    private static int EndOfRun(Rune[] text, int at, Kind kind)
    {
        while (KindAt(text, at) == kind)
            at++;
        return at;
    }

    private static bool IsLineBreak(Rune[] text, int at) => at < text.Length && text[at].Value is '\r' or '\n';

    private static Kind KindAt(Rune[] text, int at)
    {
        if (at >= text.Length)
            return Kind.End;
        if (Rune.IsWhiteSpace(text[at]))
            return Kind.Space;
        return Rune.GetUnicodeCategory(text[at]) switch
        {
            <= UnicodeCategory.OtherLetter => Kind.Letter,
            UnicodeCategory.DecimalDigitNumber or UnicodeCategory.LetterNumber or UnicodeCategory.OtherNumber => Kind.Number,
            _ => Kind.Other,
        };
    }
}
