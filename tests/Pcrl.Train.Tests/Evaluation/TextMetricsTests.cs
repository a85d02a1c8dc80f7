using Pcrl.Train.Evaluation;
using Pcrl.Train.Text;

namespace Pcrl.Train.Tests.Evaluation;

/// <summary>Corners that the goldens don't reach; the values are worked out by hand from the definitions.</summary>
public sealed class TextMetricsTests
{
    private static readonly Tokenisation Spaces = new("spaces", true, text => text.Split(' ', StringSplitOptions.RemoveEmptyEntries));

    private static double Score(string name, string[] hypotheses, string[][] references)
    {
        var measures = new TextMetrics(Spaces, references).Score(hypotheses);
        var measure = measures.Single(m => m.Names.Contains(name));
        return measure.Total()[measure.Names.ToList().IndexOf(name)];
    }

    [Theory]
    [InlineData("BLEU-1", 0)]
    [InlineData("BLEU-4", 0)]
    [InlineData("ROUGE-L", 0)]
    [InlineData("CIDEr", 0)]
    [InlineData("METEOR", 0)]
    [InlineData("METEOR-raw", 0)]
    public void An_empty_hypothesis_scores_nothing(string name, double expected) =>
        Assert.Equal(expected, Score(name, ["", ""], [["甲 乙 丙"], ["甲"]]), 6);

    [Fact]
    public void A_hypothesis_without_a_longer_ngram_scores_as_the_reference_program_does()
    {
        // One window of order 1, none of order 2 to 4: (1e-15)/(1e-9) for each of those.
        Assert.Equal(1, Score("BLEU-1", ["甲"], [["甲"]]), 6);
        Assert.Equal(Math.Pow(1e-6, 1 / 2.0), Score("BLEU-2", ["甲"], [["甲"]]), 6);
        Assert.Equal(1, Score("ROUGE-L", ["甲"], [["甲"]]), 9);
        Assert.Equal(1, Score("METEOR", ["甲"], [["甲"]]), 9);
    }

    [Fact]
    public void Two_empty_texts_agree_in_ROUGE_as_in_the_reference_program() => Assert.Equal(1, Score("ROUGE-L", [""], [[""]]), 9);

    [Fact]
    public void Brevity_looks_at_the_closest_reference_and_the_shorter_of_two_equally_close()
    {
        Assert.Equal(1, Score("BLEU-1", ["甲 乙 丙"], [["甲 乙 丙 丁 戊 己", "甲 乙 丙 丁", "甲 乙"]]), 6); // lengths 4 and 2 are equally close: 2 counts
        Assert.Equal(Math.Exp(1 - 4 / 3.0), Score("BLEU-1", ["甲 乙 丙"], [["甲 乙 丙 丁"]]), 6);
    }

    [Fact]
    public void CIDEr_of_one_case_is_nothing_because_every_ngram_is_everywhere() => Assert.Equal(0, Score("CIDEr", ["甲 乙"], [["甲 乙"]]), 9);

    [Fact]
    public void METEOR_counts_chunks()
    {
        // Three matches in two chunks: P = R = 1, penalty 0.6·(2/3)^0.2.
        Assert.Equal(1 - 0.6 * Math.Pow(2 / 3.0, 0.2), Score("METEOR-raw", ["丙 甲 乙"], [["甲 乙 丙"]]), 9);
    }

    [Fact]
    public void METEOR_ends_on_a_text_that_repeats_one_word()
    {
        string loop = string.Join(' ', Enumerable.Repeat("见", 400));
        Assert.InRange(Score("METEOR-raw", [loop], [["甲 见 乙 见 丙 见"]]), 0.001, 0.5);
    }

    [Theory]
    [InlineData("层厚5mm，CT值65HU。", "层厚 5mm ， ct 值 65hu 。")]
    [InlineData("MRI-DWI 1,5 a,b x.y...", "mri dwi 1,5 a , b x.y ...")]
    [InlineData("“左侧”", "“ 左 侧 ”")]
    [InlineData("it's 2019-03-12.", "it 's 2019 03 12 .")]
    public void Normalisation_splits_what_is_not_latin(string text, string expected)
    {
        string[] words = [.. expected.Split(' ').SelectMany(word => word[0] > '\u3000' ? word.EnumerateRunes().Select(r => r.ToString()) : [word is "“" or "”" ? "\"" : word])];
        Assert.Equal(words, MeteorText.Normalise(text));
    }

    [Fact]
    public void Tokens_of_a_language_model_are_compared_by_id_and_have_no_normalised_METEOR()
    {
        string[] texts = ["双侧基底节区见低密度影。", "脑沟增宽，脑回变小。"];
        var tokenisation = Tokenisation.Llama(new Tokenizer(BytePairTrainer.Train(texts, new TokenizerConfig { Tokens = 262 })));
        var measures = new TextMetrics(tokenisation, [[texts[0]], [texts[1]]]).Score(texts);
        Assert.Equal(1, measures.Single(m => m.Names.Contains("ROUGE-L")).Total()[0], 9);
        Assert.DoesNotContain(measures, m => m.Names.Contains("METEOR"));
        Assert.Contains(measures, m => m.Names.Contains("METEOR-raw"));
    }

    [Fact]
    public void A_word_list_of_another_length_is_a_mistake_of_the_caller() =>
        Assert.Throws<ArgumentException>(() => new TextMetrics(Spaces, [["甲"]]).Score([]));
}
