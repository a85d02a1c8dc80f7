using System.Runtime.InteropServices;

namespace Pcrl.Runtime.Language;

/// <summary>The tokens that probably come next in one text.</summary>
/// <param name="phrases">What is usual in reports.</param>
/// <param name="policy">What the chances are.</param>
/// <param name="sampler">How the text is drawn: the draft follows the same noise.</param>
/// <param name="text">What is written already.</param>
internal sealed class Draft(PhraseModel phrases, DraftPolicy policy, Sampler sampler, IEnumerable<int> text)
{
    private readonly List<int> _text = [phrases.EndToken, .. text];
    private readonly List<(int Token, double Confidence, double Chance)> _guesses = [];
    private readonly List<Candidate> _counts = [];

    /// <summary>Drafted tokens.</summary>
    public int Count => _guesses.Count;

    /// <summary>A drafted token.</summary>
    public int this[int index] => _guesses[index].Token;

    /// <summary>The chance that a drafted token and all before it are right.</summary>
    public double Chance(int index) => _guesses[index].Chance;

    /// <summary>Shortens the draft.</summary>
    /// <param name="count">Tokens that stay.</param>
    public void Cut(int count) => _guesses.RemoveRange(count, Count - count);

    /// <summary>Adds a token to the text and tells whether it was drafted at this place.</summary>
    /// <param name="token">The token that was drawn.</param>
    /// <param name="index">Its place in the draft.</param>
    public bool Verify(int token, int index)
    {
        _text.Add(token);
        if (index >= Count)
            return false;
        bool right = _guesses[index].Token == token;
        policy.Verified(_guesses[index].Confidence, right);
        return right;
    }

    /// <summary>Drafts anew behind the text.</summary>
    /// <param name="room">Most tokens.</param>
    public void Extend(int room)
    {
        _guesses.Clear();
        int length = _text.Count;
        double chance = 1;
        while (Count < room)
        {
            phrases.Continue(CollectionsMarshal.AsSpan(_text), _counts);
            if (_counts.Count == 0)
                break;
            var counts = CollectionsMarshal.AsSpan(_counts);
            double most = 0, sum = 0;
            foreach (var (_, count) in counts)
                (most, sum) = (Math.Max(most, count), sum + count);
            double confidence = most / sum;
            chance *= policy.Chance(confidence);
            int token = sampler.Guess(counts, _text.Count - 1);
            if (chance < DraftPolicy.LeastChance || token == phrases.EndToken) // the end is drawn from the row before it
                break;
            _guesses.Add((token, confidence, chance));
            _text.Add(token);
        }
        _text.RemoveRange(length, _text.Count - length);
    }
}
