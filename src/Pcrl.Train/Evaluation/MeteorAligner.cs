namespace Pcrl.Train.Evaluation;

/// <summary>What METEOR knows of one hypothesis against one reference, matching equal words only.</summary>
/// <param name="Length">Words of the hypothesis.</param>
/// <param name="ReferenceLength">Words of the reference.</param>
/// <param name="FunctionWords">Function words of the hypothesis.</param>
/// <param name="ReferenceFunctionWords">Function words of the reference.</param>
/// <param name="Matches">Aligned words, function words among them.</param>
/// <param name="FunctionMatches">Aligned function words.</param>
/// <param name="Chunks">Runs of aligned words that are adjacent and in order on both sides.</param>
internal readonly record struct MeteorCounts(
    int Length, int ReferenceLength, int FunctionWords, int ReferenceFunctionWords, int Matches, int FunctionMatches, int Chunks);

/// <summary>
/// METEOR 1.5's search for the alignment with the most matches, then the fewest chunks, then the least displacement: a beam of 40 partial
/// alignments over the reference from left to right. The search is not exact, so its order of ties is reproduced too.
/// </summary>
internal static class MeteorAligner
{
    private const int Beam = 40;
    private const int Skip = -1;

    /// <summary>A partial alignment: the hypothesis words it uses are in a bit set of its own.</summary>
    private record struct Path(int Matches, int Chunks, int Distance, int LastEnd, int Functions);

    /// <summary>A way to go on from a path: the hypothesis word taken, or <see cref="Skip"/>.</summary>
    private readonly record struct Step(int Parent, int Taken, Path Result);

    /// <param name="hypothesis">Word ids.</param>
    /// <param name="reference">Word ids in the same numbering.</param>
    /// <param name="isFunction">Whether a word id is a function word.</param>
    public static MeteorCounts Align(int[] hypothesis, int[] reference, Func<int, bool> isFunction)
    {
        var places = new Dictionary<int, List<int>>(); // word → where it stands in the hypothesis
        for (int i = 0; i < hypothesis.Length; i++)
        {
            if (!places.TryGetValue(hypothesis[i], out var list))
                places[hypothesis[i]] = list = [];
            list.Add(i);
        }
        var inReference = new Dictionary<int, int>();
        foreach (int word in reference)
            inReference[word] = inReference.GetValueOrDefault(word) + 1;

        int words = (hypothesis.Length + 63) / 64;
        var used = new ulong[Beam * words];
        var nextUsed = new ulong[Beam * words];
        var paths = new List<Path> { new(0, 0, 0, -1, 0) };
        var steps = new List<Step>();
        var keys = new List<UInt128>();
        for (int current = 0; current < reference.Length; current++)
        {
            int word = reference[current];
            steps.Clear();
            places.TryGetValue(word, out var candidates);
            int function = isFunction(word) ? 1 : 0;
            // A word that stands once on either side has but one partner: every path takes it.
            bool definite = candidates is { Count: 1 } && inReference[word] == 1;
            for (int p = 0; p < paths.Count; p++)
            {
                var path = paths[p];
                if (definite)
                {
                    var taken = Take(path, candidates![0], function);
                    steps.Add(new Step(p, candidates[0], taken with { Distance = path.Distance + Math.Abs(current - candidates[0]) }));
                    continue;
                }
                foreach (int place in candidates ?? [])
                {
                    if ((used[p * words + place / 64] >> (place % 64) & 1) != 0)
                        continue;
                    // METEOR adds the displacement to the path it branches from, after branching: to later branches, not to this one.
                    steps.Add(new Step(p, place, Take(path, place, function)));
                    path.Distance += Math.Abs(current - place);
                }
                steps.Add(new Step(p, Skip, path with { Chunks = path.Chunks + (path.LastEnd == -1 ? 0 : 1), LastEnd = -1 }));
            }

            paths.Clear();
            foreach (int s in Best(steps, keys))
            {
                var step = steps[s];
                var bits = nextUsed.AsSpan(paths.Count * words, words);
                used.AsSpan(step.Parent * words, words).CopyTo(bits);
                if (step.Taken != Skip)
                    bits[step.Taken / 64] |= 1UL << (step.Taken % 64);
                paths.Add(step.Result);
            }
            (used, nextUsed) = (nextUsed, used);
        }

        var best = paths.Select(path => path with { Chunks = path.Chunks + (path.LastEnd == -1 ? 0 : 1) })
            .OrderByDescending(path => path.Matches).ThenBy(path => path.Chunks).ThenBy(path => path.Distance).First();
        return new MeteorCounts(hypothesis.Length, reference.Length, hypothesis.Count(isFunction), reference.Count(isFunction),
            best.Matches, best.Functions, best.Chunks);
    }

    private static Path Take(Path path, int place, int function) => path with
    {
        Matches = path.Matches + 1,
        Chunks = path.Chunks + (path.LastEnd != -1 && place != path.LastEnd ? 1 : 0),
        LastEnd = place + 1,
        Functions = path.Functions + function,
    };

    /// <summary>Indices of the best steps, best first; among equals the earlier comes first. One key per step sorts faster than a comparer.</summary>
    private static IEnumerable<int> Best(List<Step> steps, List<UInt128> keys)
    {
        keys.Clear();
        for (int s = 0; s < steps.Count; s++)
        {
            var result = steps[s].Result;
            keys.Add(new UInt128((ulong)(uint)(int.MaxValue - result.Matches) << 32 | (uint)result.Chunks, (ulong)(uint)result.Distance << 32 | (uint)s));
        }
        System.Runtime.InteropServices.CollectionsMarshal.AsSpan(keys).Sort();
        return keys.Take(Beam).Select(key => (int)(uint)(ulong)key);
    }
}
