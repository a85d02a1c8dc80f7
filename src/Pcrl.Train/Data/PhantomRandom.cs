namespace Pcrl.Train.Data;

/// <summary>xoshiro256** seeded by SplitMix64: the same numbers from the same seed on every machine and runtime.</summary>
internal sealed class PhantomRandom
{
    private readonly bool _typical;
    private ulong _a, _b, _c, _d;

    /// <param name="seed">Any value.</param>
    /// <param name="stream">Streams of one seed are independent, so drawing more in one leaves the others as they were.</param>
    public PhantomRandom(ulong seed, ulong stream = 0)
    {
        ulong state = seed ^ (stream * 0xD1342543DE82EF95);
        _a = SplitMix(ref state);
        _b = SplitMix(ref state);
        _c = SplitMix(ref state);
        _d = SplitMix(ref state);
    }

    private PhantomRandom() => _typical = true;

    /// <summary>No chance at all: what is likelier than not happens, and the first choice is taken.</summary>
    public static PhantomRandom Typical => new();

    public ulong Next()
    {
        ulong result = ulong.RotateLeft(_b * 5, 7) * 9, t = _b << 17;
        _c ^= _a;
        _d ^= _b;
        _b ^= _c;
        _a ^= _d;
        _c ^= t;
        _d = ulong.RotateLeft(_d, 45);
        return result;
    }

    /// <summary>Uniform in [0, 1).</summary>
    public float Unit() => (Next() >> 40) * (1f / (1 << 24));

    /// <summary>Uniform in [low, high).</summary>
    public float Range(float low, float high) => low + (high - low) * Unit();

    /// <summary>Bell-shaped around 0 with standard deviation 1 and no tail beyond ±3.5: a sum of uniforms, free of library functions that differ between machines.</summary>
    public float Bell() => (Unit() + Unit() + Unit() + Unit() - 2f) * 1.7320508f;

    /// <summary>Uniform in 0 … count − 1.</summary>
    public int Below(int count) => _typical ? 0 : (int)((Next() >> 32) * (ulong)count >> 32);

    public bool Chance(double probability) => _typical ? probability >= 0.5 : Unit() < probability;

    public T Pick<T>(params ReadOnlySpan<T> choices) => choices[Below(choices.Length)];

    /// <summary>Draws an index with probability proportional to its weight.</summary>
    public int Weighted(ReadOnlySpan<float> weights)
    {
        float sum = 0;
        foreach (float w in weights) sum += w;
        float at = Unit() * sum;
        for (int i = 0; i < weights.Length - 1; i++)
            if ((at -= weights[i]) < 0) return i;
        return weights.Length - 1;
    }

    private static ulong SplitMix(ref ulong state)
    {
        ulong z = state += 0x9E3779B97F4A7C15;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return z ^ (z >> 31);
    }
}
