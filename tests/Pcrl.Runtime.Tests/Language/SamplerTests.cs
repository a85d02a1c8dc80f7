using Pcrl.Runtime.Language;

namespace Pcrl.Runtime.Tests.Language;

public sealed class SamplerTests
{
    private static Candidate[] Filter(float[] logits, float temperature, float topP) =>
        new Sampler(new SamplingOptions { Temperature = temperature, TopP = topP }).Filter(logits).ToArray();

    [Fact]
    public void A_token_stays_while_the_mass_ahead_is_at_most_p()
    {
        float[] logits = [.. new[] { 0.1, 0.5, 0.15, 0.25 }.Select(p => (float)Math.Log(p))];
        Assert.Equal([1], Filter(logits, 1, 0.49f).Select(k => k.Token));
        Assert.Equal([1, 3], Filter(logits, 1, 0.7f).Select(k => k.Token));
        Assert.Equal([1, 3, 2], Filter(logits, 1, 0.8f).Select(k => k.Token));
        Assert.Equal([1, 3, 2, 0], Filter(logits, 1, 1).Select(k => k.Token));
        Assert.Equal(2.0 / 3, Filter(logits, 1, 0.7f)[0].Weight, 5);
    }

    [Fact]
    public void Temperature_comes_before_top_p()
    {
        float[] logits = [.. new[] { 0.6, 0.4 }.Select(p => (float)Math.Log(p))];
        Assert.Equal(2, Filter(logits, 1, 0.65f).Length);
        Assert.Single(Filter(logits, 0.5f, 0.65f)); // 0.36 : 0.16 is 0.69 : 0.31
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
            Assert.Equal(expected, Filter(logits, 1, topP).Select(k => k.Token));
        }
    }

    [Fact]
    public void Equal_logits_are_all_kept_or_cut_by_id()
    {
        Assert.Equal([0], Filter(new float[7], 0.6f, 0).Select(k => k.Token));
        Assert.Equal(Enumerable.Range(0, 7), Filter(new float[7], 0.6f, 0.9f).Select(k => k.Token));
    }

    [Fact]
    public void Greedy_takes_the_first_of_the_likeliest()
    {
        Assert.Equal(1, new Sampler(new SamplingOptions { Temperature = 0 }).Next([1, 5, 5, -3], 0));
    }

    [Theory]
    [InlineData(float.NaN)]
    [InlineData(float.PositiveInfinity)]
    [InlineData(float.NegativeInfinity)]
    public void Logits_that_are_not_finite_are_an_error(float value)
    {
        Assert.Throws<InputException>(() => new Sampler(new SamplingOptions()).Next([0, value, 1], 0));
        Assert.Throws<InputException>(() => new Sampler(new SamplingOptions { Temperature = 0 }).Next([0, value, 1], 0));
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
        // argmin over the token t of -log(u) with u from SplitMix64's mixing of seed, place and t, equal weights
        Assert.Equal([1, 0, 1, 5, 7, 2, 5, 1], Enumerable.Range(0, 8).Select(place => sampler.Next(new float[8], place)));
    }

    [Fact]
    public void A_draw_depends_on_its_place_alone()
    {
        var options = new SamplingOptions { Temperature = 1, TopP = 1, Seed = 5 };
        int[] forwards = [.. Enumerable.Range(0, 50).Select(place => new Sampler(options).Next(new float[50], place))];
        var sampler = new Sampler(options);
        Assert.Equal(forwards.Reverse(), Enumerable.Range(0, 50).Reverse().Select(place => sampler.Next(new float[50], place)));
        Assert.True(forwards.Distinct().Count() > 20);
    }

    [Fact]
    public void Frequencies_follow_the_probabilities()
    {
        float[] logits = [.. new[] { 0.2, 0.5, 0.3 }.Select(p => (float)Math.Log(p))];
        var sampler = new Sampler(new SamplingOptions { Temperature = 1, TopP = 1, Seed = 1 });
        var counts = new int[3];
        for (int place = 0; place < 20000; place++)
            counts[sampler.Next(logits, place)]++;
        Assert.InRange(counts[0] / 20000.0, 0.19, 0.21);
        Assert.InRange(counts[1] / 20000.0, 0.49, 0.51);
    }

    [Fact]
    public void A_guess_with_the_right_probabilities_is_always_right_and_with_others_often()
    {
        float[] logits = [.. new[] { 0.4, 0.3, 0.2, 0.1 }.Select(p => (float)Math.Log(p))];
        var sampler = new Sampler(new SamplingOptions { Seed = 3 });
        int Agreement(params double[] counts) => Enumerable.Range(0, 2000).Count(place =>
            sampler.Guess([.. counts.Select((count, token) => new Candidate(token, count))], place) == sampler.Next(logits, place));
        Assert.Equal(2000, Agreement(4, 3, 2, 1));
        Assert.InRange(Agreement(3, 3, 2, 2), 1200, 1990);
        Assert.InRange(Agreement(0.001, 0.001, 0.001, 4), 0, 200);
    }
}
