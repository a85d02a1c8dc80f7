using System.Numerics.Tensors;

namespace Pcrl.Train.Evaluation;

/// <summary>How sure a score is.</summary>
/// <param name="Low">Lower end of the 95 % interval.</param>
/// <param name="High">Its upper end.</param>
public readonly record struct Interval(double Low, double High);

/// <summary>How the score of a system differs from that of another one on the same cases.</summary>
/// <param name="Value">Difference: the system's score less the other's.</param>
/// <param name="Interval">95 % interval of the difference, from a paired bootstrap.</param>
/// <param name="P">Two-sided p of a paired permutation test; 1/(resamples + 1) is the smallest possible.</param>
public readonly record struct Difference(double Value, Interval Interval, double P);

/// <summary>
/// Bootstrap intervals and paired permutation tests over measures that add up per item. Every measure of the same size, seed and number of
/// resamples sees the same samples, so that systems are compared case by case.
/// </summary>
/// <param name="items">Cases.</param>
/// <param name="resamples">Bootstrap samples, and permutations; at least 1.</param>
/// <param name="seed">Same seed, same figures.</param>
public sealed class Resampling(int items, int resamples, int seed)
{
    /// <summary>Scores of every bootstrap sample: [scores of the measure][resamples].</summary>
    public double[][] Bootstrap(Measure measure, CancellationToken cancellation = default)
    {
        var scores = measure.Names.Select(_ => new double[resamples]).ToArray();
        Parallel.For(0, resamples, new ParallelOptions { CancellationToken = cancellation }, sample =>
        {
            var random = Generator(sample);
            var sums = new double[measure.Width];
            for (int i = 0; i < items; i++)
                TensorPrimitives.Add(sums, measure.Item(random.Next(items)), sums);
            Store(scores, sample, measure.Score(sums, items));
        });
        return scores;
    }

    /// <summary>The middle 95 % of samples.</summary>
    public static Interval Middle(IEnumerable<double> samples)
    {
        double[] sorted = [.. samples.Order()];
        return new Interval(Quantile(sorted, 0.025), Quantile(sorted, 0.975));
    }

    /// <summary>The p of every score: how often exchanging the two systems' items at random parts them at least as much as they are parted.</summary>
    public double[] Permutation(Measure a, Measure b, CancellationToken cancellation = default)
    {
        double[] observed = Differences(a.Total(), b.Total());
        var extreme = new int[observed.Length];
        Parallel.For(0, resamples, new ParallelOptions { CancellationToken = cancellation }, sample =>
        {
            var random = Generator(~sample);
            double[] first = new double[a.Width], second = new double[a.Width];
            for (int i = 0; i < items; i++)
            {
                bool exchange = random.Next(2) == 1;
                TensorPrimitives.Add(first, exchange ? b.Item(i) : a.Item(i), first);
                TensorPrimitives.Add(second, exchange ? a.Item(i) : b.Item(i), second);
            }
            double[] difference = Differences(a.Score(first, items), b.Score(second, items));
            for (int k = 0; k < difference.Length; k++)
            {
                // The slack keeps rounding from parting what is equal.
                if (Math.Abs(difference[k]) >= Math.Abs(observed[k]) - 1e-12)
                    Interlocked.Increment(ref extreme[k]);
            }
        });
        return [.. extreme.Select(count => (count + 1.0) / (resamples + 1))];
    }

    private Random Generator(int stream) => new(HashSeed(stream));

    private int HashSeed(int stream)
    {
        // SplitMix64's finaliser: neighbouring streams must not start alike.
        ulong z = unchecked(((ulong)(uint)seed << 32 | (uint)stream) + 0x9E3779B97F4A7C15);
        z = unchecked((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9);
        z = unchecked((z ^ (z >> 27)) * 0x94D049BB133111EB);
        return (int)(z >> 33);
    }

    private static double[] Differences(double[] a, double[] b) => [.. a.Zip(b, (x, y) => x - y)];

    private static void Store(double[][] scores, int sample, double[] values)
    {
        for (int k = 0; k < values.Length; k++)
            scores[k][sample] = values[k];
    }

    /// <summary>Linear interpolation between the two nearest samples.</summary>
    private static double Quantile(double[] sorted, double share)
    {
        double place = share * (sorted.Length - 1);
        int below = (int)place;
        return below + 1 < sorted.Length ? sorted[below] + (place - below) * (sorted[below + 1] - sorted[below]) : sorted[below];
    }
}
