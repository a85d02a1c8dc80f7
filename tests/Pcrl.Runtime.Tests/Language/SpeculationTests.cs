using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;

namespace Pcrl.Runtime.Tests.Language;

/// <summary>Drafts must not change what is drawn: frequencies of 20,000 continuations of fixed prefixes, written by the decoder with and without drafts.</summary>
public sealed class SpeculationTests(TinyModel shared) : IClassFixture<TinyModel>
{
    private const int Samples = 20_000, Tokens = 3, FewestOfACell = 20;
    private static readonly string[] Prefixes = ["脑室", "report 12"];

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

    private BatchDecoder Decoder(IReadOnlyList<string>? phrases, BatchDecoder.Acceptance? rule = null)
    {
        var options = new DecodingOptions { Sequences = 16, Speculation = phrases is not null, Phrases = phrases ?? [], WholeDrafts = true };
        var decoder = new BatchDecoder(shared.Model, new PromptTemplate(TinyLlm.Bos, ""), options) { WrongRule = rule };
        decoder.WaitUntilReady();
        return decoder;
    }

    /// <summary>Continuations of a prefix with their numbers, and how many of their tokens were drafted.</summary>
    private async Task<(Dictionary<string, int> Counts, int Drafted)> Write(BatchDecoder decoder, string prefix, ulong firstSeed, int samples)
    {
        float[] rows = shared.Model.Embed(shared.Model.Tokenize(prefix));
        var (counts, drafted) = (new Dictionary<string, int>(), 0);
        await Parallel.ForAsync(0, samples, new ParallelOptions { MaxDegreeOfParallelism = 32 }, async (i, cancellation) =>
        {
            string text = "";
            await foreach (var piece in decoder.GenerateAsync(rows, new SamplingOptions { Seed = firstSeed + (ulong)i, MaxTokens = Tokens }, cancellation))
            {
                text += piece.Text;
                Interlocked.Add(ref drafted, piece.Summary?.DraftedTokens ?? 0);
            }
            lock (counts)
                counts[text] = counts.GetValueOrDefault(text) + 1;
        });
        return (counts, drafted);
    }

    /// <summary>Whether two samples of one size may come from one distribution: chi-square, one in a thousand. What is rare is one cell.</summary>
    private static bool Agree(Dictionary<string, int> a, Dictionary<string, int> b)
    {
        var cells = a.Keys.Union(b.Keys).Select(text => (A: a.GetValueOrDefault(text), B: b.GetValueOrDefault(text)))
            .GroupBy(cell => cell.A + cell.B < FewestOfACell ? -1 : 0, (rare, group) => rare < 0 ? [(A: group.Sum(c => c.A), B: group.Sum(c => c.B))] : group)
            .SelectMany(group => group).ToList();
        Assert.True(cells.Count > 2);
        double chi = cells.Sum(cell => (double)(cell.A - cell.B) * (cell.A - cell.B) / (cell.A + cell.B));
        // Wilson and Hilferty's approximation of the quantile; 3.09 is the normal one of 0.999.
        double freedom = cells.Count - 1, root = 1 - 2 / (9 * freedom) + 3.09 * Math.Sqrt(2 / (9 * freedom));
        return chi < freedom * root * root * root;
    }

    [Fact]
    public async Task Drafts_leave_the_frequencies_as_they_are_and_a_biased_rule_is_found()
    {
        using var plain = Decoder(null);
        foreach (string prefix in Prefixes)
        {
            var (expected, _) = await Write(plain, prefix, firstSeed: 1_000_000, Samples);
            string[] phrases = [.. (await Write(plain, prefix, firstSeed: 2_000_000, 300)).Counts.SelectMany(c => Enumerable.Repeat(c.Key, c.Value))];
            using var speculative = Decoder(phrases);
            using var biased = Decoder(phrases, Biased);
            var (counts, drafted) = await Write(speculative, prefix, firstSeed: 0, Samples);
            Assert.True(drafted > Samples / 10, $"{prefix}: {drafted} drafted tokens");
            Assert.True(Agree(expected, counts), prefix);
            Assert.False(Agree(expected, (await Write(biased, prefix, firstSeed: 0, Samples)).Counts), prefix);
        }
    }
}
