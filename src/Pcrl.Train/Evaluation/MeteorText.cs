using System.Text.RegularExpressions;

namespace Pcrl.Train.Evaluation;

/// <summary>How METEOR's English front end (<c>-l en -norm</c>) sees a text, and which words it counts as function words.</summary>
internal static partial class MeteorText
{
    // Western European and Cyrillic letters: what the English normaliser takes for parts of words. Every Chinese character becomes a word.
    private const string Letters = "A-Za-zŠŽšžŸÀ-ÖØ-öø-žЀ-ӿԀ-ԧꙀ-ꙮ꙾-ꚗᴀ-ᵿ";
    private const char HiddenDot = '\uE000';

    /// <summary>
    /// Everyday English words and the commonest ASCII punctuation, which METEOR weighs 1 to 3 against content words. METEOR's own list is not part of
    /// this project: scores of texts with English words may differ from it slightly, Chinese words are on neither list.
    /// </summary>
    private static readonly HashSet<string> FunctionWords = [.. """
        . , - -- ? : ' " 's ( ) the of and to a an in is are was were be been being that this these those for on with as by at from it its he she they we
        you i his her their our your my him them us me not no or but if so than then there which who what when where how will would can could may
        should do does did has have had all any some one two more most other only also very just about into over after before between up out new
        """.Split((char[])[' ', '\n', '\r'], StringSplitOptions.RemoveEmptyEntries)];

    /// <summary>True for a lower-case word that METEOR counts as a function word.</summary>
    public static bool IsFunctionWord(string word) => FunctionWords.Contains(word);

    /// <summary>Lower-case words after METEOR's normalisation for English.</summary>
    public static string[] Normalise(string text)
    {
        string line = SeparateSymbols().Replace($" {text} ", " $0 ");
        line = SeveralDots().Replace(line, run => $" {new string(HiddenDot, run.Length)} ");
        foreach (var comma in (Regex[])[CommaBetweenOthers(), CommaAfterDigit(), CommaBeforeDigit()])
            line = comma.Replace(line, "$1 , $2");
        line = SingleQuote().Replace(line, "'");
        line = DoubleQuote().Replace(line, " \" ");
        line = line.Replace("–", "-").Replace("--", "-");
        line = DashInWord().Replace(line, "$1 $2");
        foreach (var quote in (Regex[])[QuoteBetweenOthers(), QuoteBeforeLetter(), QuoteAfterLetter()])
            line = quote.Replace(line, "$1 ' $2");
        foreach (var contraction in (Regex[])[QuoteInWord(), QuoteAfterDigit()])
            line = contraction.Replace(line, "$1 '$2");
        return Words(SplitFinalDots(Words(line))).Select(word => word.Replace(HiddenDot, '.').ToLowerInvariant()).ToArray();
    }

    /// <summary>A dot that ends a word is a word of its own, unless the word is an abbreviation or the next begins with a small letter.</summary>
    private static string SplitFinalDots(string[] words)
    {
        for (int i = 0; i < words.Length; i++)
        {
            string word = words[i];
            if (word.Length < 2 || word[^1] != '.')
                continue;
            string stem = word[..^1];
            char next = i + 1 < words.Length ? words[i + 1][0] : ' ';
            bool initial = stem.Length == 1 && char.IsAsciiLetterUpper(stem[0]);
            if (stem.Contains('.') && AnyLetter().IsMatch(stem))
                words[i] = word.Replace(".", "");
            else if (!(initial || char.IsAsciiLetterLower(next) || (stem == "No" && char.IsAsciiDigit(next))))
                words[i] = stem + " .";
        }
        return string.Join(' ', words);
    }

    private static string[] Words(string line) => line.Split((char[])[' ', '\t', '\n', '\r', '\f'], StringSplitOptions.RemoveEmptyEntries);

    [GeneratedRegex(@"[\uD800-\uDBFF][\uDC00-\uDFFF]|[^0-9" + Letters + @" \t\n\v\f\r.'`,\-‘’]")]
    private static partial Regex SeparateSymbols();

    [GeneratedRegex(@"\.{2,}")]
    private static partial Regex SeveralDots();

    [GeneratedRegex("([^0-9]),([^0-9])")]
    private static partial Regex CommaBetweenOthers();

    [GeneratedRegex("([0-9]),([^0-9])")]
    private static partial Regex CommaAfterDigit();

    [GeneratedRegex("([^0-9]),([0-9])")]
    private static partial Regex CommaBeforeDigit();

    [GeneratedRegex("[`‘’]")]
    private static partial Regex SingleQuote();

    [GeneratedRegex("[“”]|''")]
    private static partial Regex DoubleQuote();

    [GeneratedRegex("([0-9." + Letters + "])-([0-9" + Letters + "])")]
    private static partial Regex DashInWord();

    [GeneratedRegex("([^" + Letters + "])'([^" + Letters + "])")]
    private static partial Regex QuoteBetweenOthers();

    [GeneratedRegex("([^0-9" + Letters + "])'([" + Letters + "])")]
    private static partial Regex QuoteBeforeLetter();

    [GeneratedRegex("([" + Letters + "])'([^" + Letters + "])")]
    private static partial Regex QuoteAfterLetter();

    [GeneratedRegex("([" + Letters + "])'([" + Letters + "])")]
    private static partial Regex QuoteInWord();

    [GeneratedRegex("([0-9])'(s)")]
    private static partial Regex QuoteAfterDigit();

    [GeneratedRegex("[" + Letters + "]")]
    private static partial Regex AnyLetter();
}
