using System.Globalization;
using System.Text;
using Pcrl.Train.Text;
using Pcrl.Train.Text.Segmentation;

namespace Pcrl.Train.Evaluation;

/// <summary>A named way to cut a report into the tokens that the n-gram metrics compare.</summary>
/// <param name="Name">Short name, as in options and tables.</param>
/// <param name="TokensAreText">False when tokens are ids or bytes, which METEOR's normalisation of text can't apply to.</param>
/// <param name="Cut">Tokens of a text; none is empty or white space.</param>
public sealed record Tokenisation(string Name, bool TokensAreText, Func<string, string[]> Cut)
{
    /// <summary>Every character that is not white space is a token.</summary>
    public static Tokenisation Characters { get; } = new("char", true, text =>
        [.. text.EnumerateRunes().Where(rune => !Rune.IsWhiteSpace(rune)).Select(rune => rune.ToString())]);

    /// <summary>Words of jieba without white space; punctuation marks are tokens.</summary>
    public static Tokenisation Jieba(JiebaSegmenter segmenter) => new("jieba", true, text =>
        [.. segmenter.Cut(text).Where(word => !string.IsNullOrWhiteSpace(word))]);

    /// <summary>As <see cref="Jieba"/>, without words made only of punctuation and symbols.</summary>
    public static Tokenisation JiebaWithoutPunctuation(JiebaSegmenter segmenter) => new("jieba-nopunct", true, text =>
        [.. segmenter.Cut(text).Where(word => !string.IsNullOrWhiteSpace(word) && !word.EnumerateRunes().All(IsPunctuation))]);

    /// <summary>Tokens of a LLaMA-3 tokenizer, compared by id.</summary>
    public static Tokenisation Llama(Tokenizer tokenizer) => new("llama", false, text =>
        [.. tokenizer.Encode(text).Select(id => id.ToString(CultureInfo.InvariantCulture))]);

    private static bool IsPunctuation(Rune rune) => Rune.GetUnicodeCategory(rune) is >= UnicodeCategory.ConnectorPunctuation and <= UnicodeCategory.OtherSymbol;
}
