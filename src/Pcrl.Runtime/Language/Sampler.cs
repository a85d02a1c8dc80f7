using System.Numerics.Tensors;

namespace Pcrl.Runtime.Language;

/// <summary>How the next token is drawn; the defaults are the paper's (§4.1).</summary>
public sealed record SamplingOptions
{
    /// <summary>Divides the logits; 0 takes the likeliest token always.</summary>
    public float Temperature { get; init; } = 0.6f;

    /// <summary>A token stays if the probability of those ahead of it sums to at most this; 0 to 1.</summary>
    public float TopP { get; init; } = 0.9f;

    /// <summary>Start of the random numbers: same seed, same text.</summary>
    public ulong Seed { get; init; }

    /// <summary>Most tokens to generate.</summary>
    public int MaxTokens { get; init; } = 256;

    /// <summary>Refuses impossible values.</summary>
    /// <exception cref="InputException">A value is out of its range.</exception>
    public void Check()
    {
        if (!(Temperature >= 0 && float.IsFinite(Temperature)))
            throw new InputException("temperature", $"must be 0 or more, is {Temperature}");
        if (!(TopP >= 0 && TopP <= 1))
            throw new InputException("top-p", $"must be between 0 and 1, is {TopP}");
        if (MaxTokens < 1)
            throw new InputException("max-tokens", $"must be 1 or more, is {MaxTokens}");
    }
}

/// <summary>A token that can be drawn.</summary>
/// <param name="Token">Its id.</param>
/// <param name="Weight">Its probability, or something in proportion to it.</param>
public readonly record struct Candidate(int Token, double Weight);

/// <summary>
/// Temperature, then top-p, then one draw: our own code, because llama.cpp's default chain does other things in another order.
/// <para>
/// The draw is a race: each token runs for a time Exponential(1) / probability and the first one in is drawn, which has exactly the
/// probabilities (the Gumbel-max trick, written with exponentials). The noise of a token depends on seed, place in the text and token alone.
/// So a text is the same alone or among others, with or without speculation, as far as the device's kernels give the same logits; and a drafter that runs the same race with its guess of the
/// probabilities mostly picks the same token, the more often the better the guess.
/// </para>
/// <para>Any number of threads may draw at the same time.</para>
/// </summary>
public sealed class Sampler
{
    /// <summary>Logits that stay in the nearest cache while pass after pass goes over them.</summary>
    private const int Block = 1024;

    [ThreadStatic]
    private static Scratch? _scratch;

    private readonly SamplingOptions _options;

    /// <summary>Makes a sampler.</summary>
    /// <exception cref="InputException">An option is out of range.</exception>
    public Sampler(SamplingOptions options)
    {
        options.Check();
        _options = options;
    }

    /// <summary>The next token.</summary>
    /// <param name="logits">[vocabulary]</param>
    /// <param name="index">Place in the text, from 0.</param>
    /// <exception cref="InputException">A logit is NaN or infinite: the model or its input is broken.</exception>
    public int Next(ReadOnlySpan<float> logits, int index)
    {
        if (_options.Temperature == 0)
        {
            RefuseNonFinite(logits);
            return TensorPrimitives.IndexOfMax(logits); // the first of equals
        }
        return First(Filter(logits), index);
    }

    /// <summary>
    /// What <see cref="Next"/> would give if tokens were as likely as they are frequent: temperature and top-p apply as there.
    /// </summary>
    /// <param name="counts">Tokens and how often they were seen, above 0; sorted and changed.</param>
    /// <param name="index">Place in the text, from 0.</param>
    internal int Guess(Span<Candidate> counts, int index)
    {
        counts.Sort(LikeliestFirst);
        if (_options.Temperature == 0)
            return counts[0].Token;
        double most = counts[0].Weight, sum = 0;
        for (int i = 0; i < counts.Length; i++)
        {
            counts[i] = counts[i] with { Weight = Math.Pow(counts[i].Weight / most, 1 / _options.Temperature) };
            sum += counts[i].Weight;
        }
        return First(counts[..Nucleus(counts, sum)], index);
    }

    /// <summary>
    /// The tokens that can be drawn and their probabilities, which sum to 1; likeliest first, equals by id.
    /// Order of the reference: logits / temperature, softmax, drop where the mass ahead exceeds top-p, renormalise.
    /// </summary>
    /// <param name="logits">[vocabulary]</param>
    /// <returns>Valid until this thread's next call.</returns>
    /// <exception cref="InputException">A logit is NaN or infinite.</exception>
    public ReadOnlySpan<Candidate> Filter(ReadOnlySpan<float> logits)
    {
        var scratch = _scratch ??= new Scratch();
        int blocks = (logits.Length + Block - 1) / Block;
        if (scratch.Peaks.Length < blocks)
            scratch.Peaks = new float[blocks];
        float[] peaks = scratch.Peaks;
        float maximum = float.NegativeInfinity;
        for (int start = 0, block = 0; start < logits.Length; start += Block, block++)
        {
            var part = logits[start..Math.Min(start + Block, logits.Length)];
            RefuseNonFinite(part);
            maximum = Math.Max(maximum, peaks[block] = TensorPrimitives.Max(part));
        }
        // Tokens below (1 - p) / vocabulary have less than 1 - p together, so more than p lies ahead of each of them: they are
        // out, and only the few others need sorting. (The slack covers rounding when all are equal.) The likeliest weighs 1, so the sum is no less.
        float least = (float)((1 - 1e-5) * (1 - _options.TopP) / logits.Length);
        double sum = 0;
        int count = 0;
        for (int start = 0, block = 0; start < logits.Length; start += Block, block++)
        {
            var part = logits[start..Math.Min(start + Block, logits.Length)];
            var weights = scratch.Weights.AsSpan(0, part.Length);
            TensorPrimitives.Subtract(part, maximum, weights);
            TensorPrimitives.Divide(weights, _options.Temperature, weights);
            TensorPrimitives.Exp(weights, weights);
            sum += TensorPrimitives.Sum<float>(weights);
            if (MathF.Exp((peaks[block] - maximum) / _options.Temperature) < least)
                continue;
            for (int i = 0; i < weights.Length; i++)
            {
                if (weights[i] < least)
                    continue;
                // The few that matter are weighed in double precision.
                double weight = Math.Exp(((double)part[i] - maximum) / _options.Temperature);
                sum += weight - weights[i];
                if (count == scratch.Candidates.Length)
                    Array.Resize(ref scratch.Candidates, 2 * count);
                scratch.Candidates[count++] = new Candidate(start + i, weight);
            }
        }
        var candidates = scratch.Candidates.AsSpan(0, count);
        int first = 0;
        foreach (var candidate in candidates)
        {
            if (candidate.Weight >= least * sum) // now that the sum is known
                candidates[first++] = candidate;
        }
        candidates = candidates[..first];
        candidates.Sort(LikeliestFirst);
        int kept = Nucleus(candidates, sum);
        double mass = 0;
        foreach (var candidate in candidates[..kept])
            mass += candidate.Weight;
        foreach (ref var candidate in candidates[..kept])
            candidate = candidate with { Weight = candidate.Weight / mass };
        return candidates[..kept];
    }

    private static int LikeliestFirst(Candidate a, Candidate b) => a.Weight != b.Weight ? b.Weight.CompareTo(a.Weight) : a.Token.CompareTo(b.Token);

    /// <summary>How many of the candidates, likeliest first, have at most top-p of the mass ahead of them.</summary>
    private int Nucleus(ReadOnlySpan<Candidate> candidates, double sum)
    {
        double ahead = 0;
        int kept = 0;
        while (kept < candidates.Length && ahead <= _options.TopP * sum)
            ahead += candidates[kept++].Weight;
        return kept;
    }

    /// <summary>The winner of the race at a place in the text.</summary>
    private int First(ReadOnlySpan<Candidate> candidates, int index)
    {
        if (candidates.Length == 1)
            return candidates[0].Token;
        ulong place = Mix(_options.Seed + Golden * ((ulong)index + 1));
        var (best, soonest) = (-1, double.PositiveInfinity);
        foreach (var (token, weight) in candidates)
        {
            // 53 bits as a number inside (0, 1): the same on every machine and .NET version.
            double uniform = ((Mix(place + Golden * ((ulong)token + 1)) >> 11) + 0.5) * (1.0 / (1UL << 53));
            double time = -Math.Log(uniform) / weight;
            if (time < soonest)
                (best, soonest) = (token, time);
        }
        return best;
    }

    private const ulong Golden = 0x9E3779B97F4A7C15;

    /// <summary>The mixing function of SplitMix64.</summary>
    private static ulong Mix(ulong z)
    {
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }

    /// <summary>Memory of a thread; texts come and go, and 128 thousand logits are looked at for each token.</summary>
    private sealed class Scratch
    {
        public readonly float[] Weights = new float[Block];
        public float[] Peaks = [];
        public Candidate[] Candidates = new Candidate[64];
    }

    private static void RefuseNonFinite(ReadOnlySpan<float> logits)
    {
        if (!TensorPrimitives.IsFiniteAll(logits))
            throw new InputException("language model", "gave logits that are not finite; the weights or the visual tokens are damaged");
    }
}
