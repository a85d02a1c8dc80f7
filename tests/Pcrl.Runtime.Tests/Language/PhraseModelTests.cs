using Pcrl.Runtime.Language;

namespace Pcrl.Runtime.Tests.Language;

public sealed class PhraseModelTests
{
    private const int End = 0;

    private static Dictionary<int, double> Continue(PhraseModel model, params int[] text)
    {
        var counts = new List<Candidate>();
        model.Continue([End, .. text], counts);
        return counts.ToDictionary(c => c.Token, c => c.Weight);
    }

    private static IEnumerable<int[]> Times(int count, params int[] text) => Enumerable.Repeat(text, count);

    [Fact]
    public void It_counts_what_followed()
    {
        var model = new PhraseModel([.. Times(20, 1, 2, 3), .. Times(10, 1, 2, 4)], End);
        Assert.Equal(new() { [1] = 30 }, Continue(model));
        Assert.Equal(new() { [3] = 20, [4] = 10 }, Continue(model, 1, 2));
        Assert.Equal(new() { [End] = 20 }, Continue(model, 1, 2, 3));
    }

    [Fact]
    public void The_longest_context_that_was_seen_often_enough_counts()
    {
        var model = new PhraseModel([.. Times(20, 7, 1, 2), .. Times(9, 8, 1, 3), .. Times(3, 9, 1, 4)], End);
        Assert.Equal(new() { [2] = 20 }, Continue(model, 7, 1));
        Assert.Equal(new() { [3] = 9 }, Continue(model, 8, 1));
        Assert.Equal([2, 3, 4], Continue(model, 9, 1).Keys.Order()); // three times is too seldom
        Assert.Equal([2, 3, 4], Continue(model, 5, 1).Keys.Order());
    }

    [Fact]
    public void A_text_that_repeats_itself_is_noticed()
    {
        var model = new PhraseModel([], End);
        Assert.Empty(Continue(model, 1, 2, 3, 4));
        Assert.Equal(new() { [5] = 1 }, Continue(model, 1, 2, 3, 4, 5, 6, 1, 2, 3, 4));
        Assert.Empty(Continue(model, 1, 2, 3, 9, 1, 2, 3));
    }

    [Fact]
    public void What_it_finds_is_what_a_search_of_the_whole_corpus_finds()
    {
        var random = new Random(1);
        int[][] texts = [.. Enumerable.Range(0, 300).Select(_ => Enumerable.Range(0, random.Next(1, 30)).Select(_ => random.Next(1, 4)).ToArray())];
        var model = new PhraseModel(texts, End);
        int[] corpus = [End, .. texts.SelectMany(text => text.Append(End))];
        for (int round = 0; round < 300; round++)
        {
            int[] text = [End, .. Enumerable.Range(0, random.Next(0, 4)).Select(_ => random.Next(1, 4))]; // too short to repeat itself
            int[] places = [], longest = text;
            for (; places.Length < 8; longest = longest[1..])
                places = [.. Enumerable.Range(1, corpus.Length - 1).Where(p => p >= longest.Length && corpus.AsSpan(p - longest.Length, longest.Length).SequenceEqual(longest))];
            if (places.Length > 64)
                continue; // only a part is looked at
            var expected = places.GroupBy(p => corpus[p]).ToDictionary(g => g.Key, g => (double)g.Count());
            Assert.Equal(expected, Continue(model, text[1..]));
        }
    }
}
