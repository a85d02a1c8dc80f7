namespace Pcrl.Train.Evaluation;

/// <summary>The n-grams of one text up to <see cref="NgramVocabulary.LongestOrder"/>: ascending ids with their counts.</summary>
/// <param name="Ids">Ids in a <see cref="NgramVocabulary"/>, ascending, each once.</param>
/// <param name="Counts">Occurrences, parallel to <paramref name="Ids"/>.</param>
/// <param name="Length">Tokens of the text.</param>
internal readonly record struct NgramCounts(int[] Ids, int[] Counts, int Length)
{
    /// <summary>How many n-grams of an order a text of this length has.</summary>
    public int Windows(int order) => Math.Max(0, Length - order + 1);
}

/// <summary>Numbers tokens and n-grams, so that the metrics compare integers. Not safe for several threads.</summary>
internal sealed class NgramVocabulary
{
    /// <summary>Longest n-gram that BLEU and CIDEr look at.</summary>
    public const int LongestOrder = 4;

    private readonly Dictionary<string, int> _tokens = [];
    private readonly Dictionary<(int Prefix, int Token), int> _ngrams = [];
    private readonly List<byte> _orders = [];

    /// <summary>How many different n-grams were seen.</summary>
    public int Count => _orders.Count;

    /// <summary>1 to <see cref="LongestOrder"/>.</summary>
    public int Order(int ngram) => _orders[ngram];

    /// <summary>Ids of the tokens of a text.</summary>
    public int[] Tokens(IReadOnlyList<string> text)
    {
        var ids = new int[text.Count];
        for (int i = 0; i < ids.Length; i++)
        {
            if (!_tokens.TryGetValue(text[i], out ids[i]))
                _tokens[text[i]] = ids[i] = _tokens.Count;
        }
        return ids;
    }

    /// <summary>Counts the n-grams of all orders.</summary>
    public NgramCounts CountNgrams(int[] tokens)
    {
        var all = new List<int>(tokens.Length * LongestOrder);
        for (int start = 0; start < tokens.Length; start++)
        {
            int ngram = -1;
            for (int order = 1; order <= LongestOrder && start + order <= tokens.Length; order++)
            {
                ngram = Extend(ngram, tokens[start + order - 1], order);
                all.Add(ngram);
            }
        }
        all.Sort();
        var ids = new List<int>(all.Count);
        var counts = new List<int>(all.Count);
        foreach (int id in all)
        {
            if (ids.Count > 0 && ids[^1] == id)
                counts[^1]++;
            else
            {
                ids.Add(id);
                counts.Add(1);
            }
        }
        return new NgramCounts([.. ids], [.. counts], tokens.Length);
    }

    private int Extend(int prefix, int token, int order)
    {
        if (!_ngrams.TryGetValue((prefix, token), out int id))
        {
            _ngrams[(prefix, token)] = id = _orders.Count;
            _orders.Add((byte)order);
        }
        return id;
    }
}
