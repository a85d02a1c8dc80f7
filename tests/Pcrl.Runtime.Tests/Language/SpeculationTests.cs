using Pcrl.Runtime.Language;

namespace Pcrl.Runtime.Tests.Language;

/// <summary>Drafts must not change what is drawn: frequencies of 20,000 next tokens behind fixed prefixes, with and without drafts.</summary>
public sealed class SpeculationTests(TinyModel shared) : IClassFixture<TinyModel>
{
    private const int Samples = 20_000;
    private static readonly string[] Prefixes = ["脑室", "未见出血 a", "report 12"];

    /// <summary>What is drawn behind a prefix, given the draft and whether it holds.</summary>
    private delegate int Rule(Sampler sampler, ReadOnlySpan<float> logits, int drafted, int drawn);

    /// <summary>The decoder's rule: what was drawn stands, the draft only says whether the next row is read already.</summary>
    private static int Exact(Sampler sampler, ReadOnlySpan<float> logits, int drafted, int drawn) => drawn;

    /// <summary>A tempting wrong rule: a draft that could have been drawn is taken.</summary>
    private static int Biased(Sampler sampler, ReadOnlySpan<float> logits, int drafted, int drawn)
    {
        foreach (var candidate in sampler.Filter(logits))
        {
            if (candidate.Token == drafted)
                return drafted;
        }
        return drawn;
    }

    private float[] Logits(string prefix) => shared.Model.EvaluateTokens(shared.Model.Tokenize(prefix))[^shared.Model.Config.VocabSize..];

    /// <summary>Counts of the drawn tokens, and how many drafts were right.</summary>
    private (int[] Counts, int Right) Speculate(float[] logits, Rule rule)
    {
        // The phrases know which tokens are likely, but not how likely.
        var likely = new Sampler(new SamplingOptions()).Filter(logits).ToArray();
        var phrases = new PhraseModel(likely.SelectMany((c, i) => Enumerable.Repeat(new[] { c.Token }, likely.Length - i)), shared.Model.EndToken);
        var (counts, right) = (new int[logits.Length], 0);
        for (ulong seed = 0; seed < Samples; seed++)
        {
            var sampler = new Sampler(new SamplingOptions { Seed = seed });
            var draft = new Draft(phrases, new DraftPolicy(), sampler, []);
            draft.Extend(1);
            Assert.Equal(1, draft.Count);
            int drawn = sampler.Next(logits, 0);
            counts[rule(sampler, logits, draft[0], drawn)]++;
            right += draft.Verify(drawn, 0) ? 1 : 0;
        }
        return (counts, right);
    }

    private static int[] Plain(float[] logits)
    {
        var counts = new int[logits.Length];
        for (ulong seed = 0; seed < Samples; seed++)
            counts[new Sampler(new SamplingOptions { Seed = 1_000_000 + seed }).Next(logits, 0)]++;
        return counts;
    }

    /// <summary>Whether two samples of one size may come from one distribution: chi-square, one in a thousand.</summary>
    private static bool Agree(int[] a, int[] b)
    {
        double chi = 0;
        int cells = 0;
        foreach (var (x, y) in a.Zip(b).Where(pair => pair.First + pair.Second > 0))
        {
            chi += (double)(x - y) * (x - y) / (x + y);
            cells++;
        }
        // Wilson and Hilferty's approximation of the quantile; 3.09 is the normal one of 0.999.
        double freedom = cells - 1, root = 1 - 2 / (9 * freedom) + 3.09 * Math.Sqrt(2 / (9 * freedom));
        return chi < freedom * root * root * root;
    }

    [Fact]
    public void Drafts_leave_the_frequencies_as_they_are()
    {
        foreach (string prefix in Prefixes)
        {
            float[] logits = Logits(prefix);
            var (counts, right) = Speculate(logits, Exact);
            Assert.InRange(right, Samples / 20, Samples - 1);
            Assert.True(counts.Count(count => count > 0) > 2);
            Assert.True(Agree(counts, Plain(logits)), prefix);
        }
    }

    [Fact]
    public void The_test_finds_an_acceptance_that_is_biased()
    {
        foreach (string prefix in Prefixes)
        {
            float[] logits = Logits(prefix);
            Assert.False(Agree(Speculate(logits, Biased).Counts, Plain(logits)), prefix);
        }
    }
}
