using Pcrl.Runtime.Language;

namespace Pcrl.Runtime.Tests.Language;

public sealed class SamplerTests
{
    [Fact]
    public void A_token_stays_while_the_mass_ahead_is_at_most_p()
    {
        float[] logits = [.. new[] { 0.1, 0.5, 0.15, 0.25 }.Select(p => (float)Math.Log(p))];
        Assert.Equal([1], Sampler.Filter(logits, 1, 0.49f).Select(k => k.Token));
        Assert.Equal([1, 3], Sampler.Filter(logits, 1, 0.7f).Select(k => k.Token));
        Assert.Equal([1, 3, 2], Sampler.Filter(logits, 1, 0.8f).Select(k => k.Token));
        Assert.Equal([1, 3, 2, 0], Sampler.Filter(logits, 1, 1).Select(k => k.Token));
        Assert.Equal(2.0 / 3, Sampler.Filter(logits, 1, 0.7f)[0].Probability, 5);
    }

    [Fact]
    public void Temperature_comes_before_top_p()
    {
        float[] logits = [.. new[] { 0.6, 0.4 }.Select(p => (float)Math.Log(p))];
        Assert.Equal(2, Sampler.Filter(logits, 1, 0.65f).Count);
        Assert.Single(Sampler.Filter(logits, 0.5f, 0.65f)); // 0.36 : 0.16 is 0.69 : 0.31
    }

    [Fact]
    public void The_short_cut_keeps_what_full_sorting_keeps()
    {
        var random = new Random(3);
        for (int round = 0; round < 200; round++)
        {
            float scale = round % 10;
            float[] logits = [.. Enumerable.Range(0, random.Next(1, 400)).Select(_ => scale * (float)random.NextDouble())];
            float topP = random.NextSingle();
            double[] weights = [.. logits.Select(l => Math.Exp((double)l - logits.Max()))];
            double ahead = 0;
            var expected = new List<int>();
            foreach (int token in Enumerable.Range(0, logits.Length).OrderByDescending(t => weights[t]).ThenBy(t => t))
            {
                if (ahead > topP * weights.Sum())
                    break;
                expected.Add(token);
                ahead += weights[token];
            }
            Assert.Equal(expected, Sampler.Filter(logits, 1, topP).Select(k => k.Token));
        }
    }

    [Fact]
    public void Equal_logits_are_all_kept_or_cut_by_id()
    {
        Assert.Equal([0], Sampler.Filter(new float[7], 0.6f, 0).Select(k => k.Token));
        Assert.Equal(Enumerable.Range(0, 7), Sampler.Filter(new float[7], 0.6f, 0.9f).Select(k => k.Token));
    }

    [Fact]
    public void Greedy_takes_the_first_of_the_likeliest()
    {
        Assert.Equal(1, new Sampler(new SamplingOptions { Temperature = 0 }).Next([1, 5, 5, -3]));
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NegativeInfinity)]
    public void Logits_that_are_not_finite_are_an_error(float value)
    {
        Assert.Throws<InputException>(() => new Sampler(new SamplingOptions()).Next([0, value, 1]));
        Assert.Throws<InputException>(() => new Sampler(new SamplingOptions { Temperature = 0 }).Next([0, value, 1]));
    }

    [Theory]
    [InlineData(-1f, 0.9f, 1)]
    [InlineData(float.NaN, 0.9f, 1)]
    [InlineData(0.6f, 1.1f, 1)]
    [InlineData(0.6f, float.NaN, 1)]
    [InlineData(0.6f, 0.9f, 0)]
    public void Impossible_options_are_refused(float temperature, float topP, int maxTokens) =>
        Assert.Throws<InputException>(() => new Sampler(new SamplingOptions { Temperature = temperature, TopP = topP, MaxTokens = maxTokens }));

    /// <summary>The draws are part of what a seed promises: they must never change.</summary>
    [Fact]
    public void A_seed_gives_the_same_draws_for_ever()
    {
        var sampler = new Sampler(new SamplingOptions { Temperature = 1, TopP = 1, Seed = 42 });
        // floor(8·u) of SplitMix64 from state 42, equal weights
        Assert.Equal([5, 1, 2, 2, 0, 6, 1, 6], Enumerable.Range(0, 8).Select(_ => sampler.Next(new float[8])));
    }

    [Fact]
    public void Frequencies_follow_the_probabilities()
    {
        float[] logits = [.. new[] { 0.2, 0.5, 0.3 }.Select(p => (float)Math.Log(p))];
        var sampler = new Sampler(new SamplingOptions { Temperature = 1, TopP = 1, Seed = 1 });
        var counts = new int[3];
        for (int i = 0; i < 20000; i++)
            counts[sampler.Next(logits)]++;
        Assert.InRange(counts[0] / 20000.0, 0.19, 0.21);
        Assert.InRange(counts[1] / 20000.0, 0.49, 0.51);
    }
}
