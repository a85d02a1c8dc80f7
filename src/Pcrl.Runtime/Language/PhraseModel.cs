using System.Runtime.InteropServices;

namespace Pcrl.Runtime.Language;

/// <summary>
/// What usually follows in a report: an n-gram model of any order over a corpus of findings. All places of the corpus are sorted by
/// the text before them, read backwards, so that the places whose preceding text is most like a given one are neighbours.
/// </summary>
internal sealed class PhraseModel
{
    /// <summary>Tokens looked back at. Findings repeat phrases, not whole texts: more would only thin the counts out.</summary>
    private const int LongestContext = 16;

    /// <summary>A context seen less often than this says too little; a shorter one that was seen more often is taken.</summary>
    private const int FewestPlaces = 8;

    /// <summary>Tokens that must repeat before a text is taken to repeat itself.</summary>
    private const int ShortestRepeat = 4;

    /// <summary>Places looked at; enough for a guess.</summary>
    private const int MostPlaces = 64;

    private readonly int[] _corpus;
    private readonly int[] _places;

    /// <summary>Learns from texts.</summary>
    /// <param name="texts">Tokens of each text, without a token that ends it.</param>
    /// <param name="end">The token that ends a text.</param>
    public PhraseModel(IEnumerable<int[]> texts, int end)
    {
        var corpus = new List<int> { end };
        foreach (int[] text in texts)
        {
            corpus.AddRange(text);
            corpus.Add(end);
        }
        _corpus = [.. corpus];
        EndToken = end;
        _places = [.. Enumerable.Range(1, _corpus.Length - 1)];
        // Most comparisons are settled by the last three tokens, which one number holds (a token has less than 21 bits).
        var keys = new ulong[_places.Length];
        for (int i = 0; i < keys.Length; i++)
        {
            for (int back = 1; back <= 3; back++)
                keys[i] = (keys[i] << 21) | (uint)(_places[i] - back >= 0 ? _corpus[_places[i] - back] : 0);
        }
        Array.Sort(keys, _places);
        for (int from = 0, to; from < keys.Length; from = to)
        {
            for (to = from + 1; to < keys.Length && keys[to] == keys[from];)
                to++;
            if (to - from > FewestPlaces)
                _places.AsSpan(from, to - from).Sort((a, b) => Compare(_corpus.AsSpan(0, a), b));
        }
    }

    /// <summary>The token that ends a text; it also stands before each.</summary>
    public int EndToken { get; }

    /// <summary>Counts what followed the longest context that was seen often enough.</summary>
    /// <param name="text">The text so far, with <see cref="EndToken"/> before it.</param>
    /// <param name="counts">Is cleared and gets each token that followed and how often; nothing where the model knows nothing.</param>
    public void Continue(ReadOnlySpan<int> text, List<Candidate> counts)
    {
        counts.Clear();
        int low = 0, high = _places.Length;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (Compare(text, _places[middle]) > 0)
                low = middle + 1;
            else
                high = middle;
        }
        // From here outwards, always to the side that has more in common.
        int left = low - 1, right = low, places = 0, common = 0;
        for (int ofLeft = Shared(text, left), ofRight = Shared(text, right); places < MostPlaces; places++)
        {
            int next = Math.Max(ofLeft, ofRight);
            if (next == 0 || (next < common && places >= FewestPlaces))
                break;
            common = next;
            if (ofLeft >= ofRight)
            {
                Add(counts, _corpus[_places[left]]);
                ofLeft = Shared(text, --left);
            }
            else
            {
                Add(counts, _corpus[_places[right]]);
                ofRight = Shared(text, ++right);
            }
        }
        // What the text itself has said before counts as well.
        for (int place = 1, shortest = Math.Max(common, ShortestRepeat); place < text.Length; place++)
        {
            if (text[place - 1] == text[^1] && Common(text, text[..place]) >= shortest)
                Add(counts, text[place]);
        }
    }

    private static void Add(List<Candidate> counts, int token)
    {
        foreach (ref var count in CollectionsMarshal.AsSpan(counts))
        {
            if (count.Token != token)
                continue;
            count = count with { Weight = count.Weight + 1 };
            return;
        }
        counts.Add(new Candidate(token, 1));
    }

    private int Shared(ReadOnlySpan<int> text, int at) =>
        at >= 0 && at < _places.Length ? Common(text, _corpus.AsSpan(0, _places[at])) : 0;

    /// <summary>Tokens that two texts share at their ends, counted as far as <see cref="LongestContext"/>.</summary>
    private static int Common(ReadOnlySpan<int> text, ReadOnlySpan<int> other)
    {
        int longest = Math.Min(LongestContext, Math.Min(text.Length, other.Length)), common = 0;
        while (common < longest && text[^(common + 1)] == other[^(common + 1)])
            common++;
        return common;
    }

    /// <summary>Order of a text and the text before a place, both read backwards.</summary>
    private int Compare(ReadOnlySpan<int> text, int place)
    {
        int longest = Math.Min(LongestContext, Math.Min(text.Length, place));
        for (int back = 1; back <= longest; back++)
        {
            int difference = text[^back].CompareTo(_corpus[place - back]);
            if (difference != 0)
                return difference;
        }
        return 0;
    }
}
