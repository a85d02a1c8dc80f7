using System.Numerics.Tensors;

namespace Pcrl.Runtime.Language;

/// <summary>How the next token is drawn; the defaults are the paper's (reference §3).</summary>
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

/// <summary>Temperature, then top-p, then one draw: our own code, because llama.cpp's default chain does other things in another order.</summary>
public sealed class Sampler
{
    private readonly SamplingOptions _options;
    private ulong _state;

    /// <summary>Starts a sequence of draws.</summary>
    public Sampler(SamplingOptions options)
    {
        options.Check();
        _options = options;
        _state = options.Seed;
    }

    /// <summary>The next token.</summary>
    /// <param name="logits">[vocabulary]</param>
    /// <exception cref="InputException">A logit is NaN or infinite: the model or its input is broken.</exception>
    public int Next(ReadOnlySpan<float> logits)
    {
        if (_options.Temperature == 0)
        {
            RefuseNonFinite(logits);
            return TensorPrimitives.IndexOfMax(logits); // the first of equals
        }
        var kept = Filter(logits, _options.Temperature, _options.TopP);
        double point = NextUniform();
        foreach (var (token, probability) in kept)
        {
            point -= probability;
            if (point < 0)
                return token;
        }
        return kept[^1].Token; // rounding left a sliver behind the last one
    }

    /// <summary>
    /// The tokens that can be drawn and their probabilities, which sum to 1; likeliest first, equals by id.
    /// Order of the reference: logits / temperature, softmax, drop where the mass ahead exceeds top-p, renormalise.
    /// </summary>
    /// <param name="logits">[vocabulary]</param>
    /// <param name="temperature">Above 0.</param>
    /// <param name="topP">0 to 1.</param>
    /// <exception cref="InputException">A logit is NaN or infinite.</exception>
    public static IReadOnlyList<(int Token, double Probability)> Filter(ReadOnlySpan<float> logits, float temperature, float topP)
    {
        RefuseNonFinite(logits);
        double maximum = TensorPrimitives.Max(logits), sum = 0;
        var weights = new double[logits.Length];
        for (int i = 0; i < weights.Length; i++)
            sum += weights[i] = Math.Exp((logits[i] - maximum) / temperature);
        // Tokens below (1 - p) / vocabulary have less than 1 - p together, so more than p lies ahead of each of them: they are
        // out, and only the few others need sorting. (The slack covers rounding when all are equal.)
        double least = (1 - 1e-9) * (1 - topP) / logits.Length * sum;
        var candidates = new List<(int Token, double Weight)>();
        for (int i = 0; i < weights.Length; i++)
        {
            if (weights[i] >= least)
                candidates.Add((i, weights[i]));
        }
        candidates.Sort((a, b) => a.Weight != b.Weight ? b.Weight.CompareTo(a.Weight) : a.Token.CompareTo(b.Token));
        double ahead = 0;
        int kept = 0;
        while (kept < candidates.Count && ahead <= topP * sum)
            ahead += candidates[kept++].Weight;
        return [.. candidates.Take(kept).Select(c => (c.Token, c.Weight / ahead))];
    }

    private static void RefuseNonFinite(ReadOnlySpan<float> logits)
    {
        if (!TensorPrimitives.IsFiniteAll(logits))
            throw new InputException("language model", "gave logits that are not finite; the weights or the visual tokens are damaged");
    }

    /// <summary>SplitMix64, its upper 53 bits as a number in [0, 1): the same on every machine and .NET version.</summary>
    private double NextUniform()
    {
        ulong z = _state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return ((z ^ (z >> 31)) >> 11) * (1.0 / (1UL << 53));
    }
}
