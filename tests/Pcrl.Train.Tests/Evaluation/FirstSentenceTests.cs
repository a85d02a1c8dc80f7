using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Tests.Evaluation;

public sealed class FirstSentenceTests
{
    private static readonly string[] Tokens = ["", "血", "无", "少许", "。"]; // the first ends a text

    /// <summary>Blood 0.3, none 0.5, little 0.2; little goes on to blood or to none by halves; the rest of a sentence is its stop or the end.</summary>
    private static float[] Next(int[] beginning) => [.. (beginning switch
    {
        [] => (double[])[0, 0.3, 0.5, 0.2, 0],
        [3] => [0, 0.5, 0.5, 0, 0],
        _ => [0.25, 0, 0, 0, 0.75],
    }).Select(p => (float)Math.Log(p))];

    private static string Decode(IReadOnlyList<int> ids) => string.Concat(ids.Select(id => Tokens[id]));

    [Fact]
    public void Every_wording_counts_with_its_probability() => Assert.Equal(
        0.4, FirstSentence.Probability(all => [.. all.Select(Next)], Decode, endToken: 0, text => text.Contains('血')), 6);

    [Fact]
    public void Without_an_end_nothing_is_known() => Assert.Equal(
        0.5, FirstSentence.Probability(all => [.. all.Select(_ => new[] { float.NegativeInfinity, 0, float.NegativeInfinity })], Decode, endToken: 0, _ => true));
}
