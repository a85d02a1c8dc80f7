using System.Text;
using System.Text.RegularExpressions;

namespace Pcrl.Train.Text;

/// <summary>How a tokenizer is made from texts.</summary>
public sealed record TokenizerConfig
{
    /// <summary>BPE tokens (the 256 bytes among them), special tokens not counted.</summary>
    public int Tokens { get; init; } = 1200;

    /// <summary>Longest token in bytes; a Chinese character has 3. Short tokens keep phrases composable.</summary>
    public int LongestToken { get; init; } = 12;

    /// <summary>Special tokens in id order; begin and end of text must be among them.</summary>
    public IReadOnlyList<string> SpecialTokens { get; init; } =
        [TokenizerData.BosToken, TokenizerData.EosToken, "[Img]", "[/Img]", "[MRG]"];

    /// <summary>What is impossible about it, or null.</summary>
    internal string? Problem() =>
        Tokens is < 256 or > 1 << 20 ? $"tokens is {Tokens}, outside 256 to {1 << 20}"
        : LongestToken < 1 ? $"longest_token is {LongestToken}, less than 1"
        : !SpecialTokens.Contains(TokenizerData.BosToken) || !SpecialTokens.Contains(TokenizerData.EosToken) ? $"special_tokens lack {TokenizerData.BosToken} or {TokenizerData.EosToken}"
        : SpecialTokens.Distinct().Count() < SpecialTokens.Count || SpecialTokens.Any(string.IsNullOrEmpty) ? "special_tokens names one twice, or an empty one"
        : null;
}

/// <summary>
/// Learns byte-level BPE merges: again and again the most frequent pair of neighbouring tokens inside a piece of
/// <see cref="TokenizerData.SplitPattern"/> becomes a token. Equal counts are settled by spelling, so the result depends on the texts alone.
/// </summary>
public sealed class BytePairTrainer
{
    private readonly List<string> _tokens = [.. TokenizerData.ByteAlphabet.Select(c => c.ToString())];
    private readonly List<(List<int> Symbols, int Count)> _pieces = [];
    private readonly Dictionary<(int Left, int Right), int> _pairs = [];
    private readonly Dictionary<(int Left, int Right), HashSet<int>> _where = [];

    private BytePairTrainer(IEnumerable<string> texts)
    {
        var counts = new Dictionary<string, int>();
        foreach (string text in texts)
        {
            foreach (ValueMatch match in Regex.EnumerateMatches(text, TokenizerData.SplitPattern))
            {
                string piece = text.Substring(match.Index, match.Length);
                counts[piece] = counts.GetValueOrDefault(piece) + 1;
            }
        }
        foreach (var (piece, count) in counts)
        {
            _pieces.Add(([.. Encoding.UTF8.GetBytes(piece).Select(b => (int)b)], count));
            Count(_pieces.Count - 1, +1);
        }
    }

    /// <summary>Learns a tokenizer.</summary>
    /// <param name="texts">What it shall be good at.</param>
    /// <param name="config">Sizes.</param>
    public static TokenizerData Train(IEnumerable<string> texts, TokenizerConfig config)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(config.Tokens, 256);
        var trainer = new BytePairTrainer(texts);
        var merges = trainer.Learn(config);
        return new TokenizerData(trainer._tokens, merges, config.SpecialTokens);
    }

    private List<string> Learn(TokenizerConfig config)
    {
        var merges = new List<string>();
        var known = _tokens.Select((token, id) => (token, id)).ToDictionary(t => t.token, t => t.id);
        while (_tokens.Count < config.Tokens)
        {
            var best = Best(config.LongestToken);
            if (best is null)
                break; // the texts hold no pair that occurs twice
            var (left, right) = best.Value;
            merges.Add($"{_tokens[left]} {_tokens[right]}");
            // Two roads may lead to one token; it gets one id.
            if (!known.TryGetValue(_tokens[left] + _tokens[right], out int id))
            {
                id = _tokens.Count;
                _tokens.Add(_tokens[left] + _tokens[right]);
                known[_tokens[id]] = id;
            }
            foreach (int piece in _where[best.Value].ToArray())
            {
                Count(piece, -1);
                Merge(_pieces[piece].Symbols, left, right, id);
                Count(piece, +1);
            }
        }
        return merges;
    }

    private (int Left, int Right)? Best(int longest)
    {
        (int Left, int Right)? best = null;
        int bestCount = 1;
        foreach (var (pair, count) in _pairs)
        {
            if (count < bestCount || _tokens[pair.Left].Length + _tokens[pair.Right].Length > longest)
                continue;
            if (count > bestCount || (best is { } b && IsBefore(pair, b)))
                (best, bestCount) = (pair, count);
        }
        return best;
    }

    private bool IsBefore((int Left, int Right) a, (int Left, int Right) b)
    {
        int order = string.CompareOrdinal(_tokens[a.Left], _tokens[b.Left]);
        return order < 0 || (order == 0 && string.CompareOrdinal(_tokens[a.Right], _tokens[b.Right]) < 0);
    }

    /// <summary>Adds or takes away the pairs of a piece.</summary>
    private void Count(int piece, int sign)
    {
        var (symbols, count) = _pieces[piece];
        for (int i = 0; i + 1 < symbols.Count; i++)
        {
            var pair = (symbols[i], symbols[i + 1]);
            int now = _pairs.GetValueOrDefault(pair) + sign * count;
            if (now == 0)
                _pairs.Remove(pair);
            else
                _pairs[pair] = now;
            if (!_where.TryGetValue(pair, out var places))
                _where[pair] = places = [];
            if (sign > 0)
                places.Add(piece);
            else
                places.Remove(piece);
        }
    }

    private static void Merge(List<int> symbols, int left, int right, int id)
    {
        int write = 0;
        for (int read = 0; read < symbols.Count; read++, write++)
        {
            bool hit = symbols[read] == left && read + 1 < symbols.Count && symbols[read + 1] == right;
            symbols[write] = hit ? id : symbols[read];
            if (hit)
                read++;
        }
        symbols.RemoveRange(write, symbols.Count - write);
    }
}
