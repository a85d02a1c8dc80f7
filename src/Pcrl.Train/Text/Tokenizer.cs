using System.Collections.Concurrent;
using System.Text;
using System.Text.RegularExpressions;

namespace Pcrl.Train.Text;

/// <summary>
/// Encodes and decodes with a <see cref="TokenizerData"/>, as LLaMA-3 and llama.cpp's <c>llama-bpe</c> do: a piece that is a token as a whole is taken
/// as it is, any other is merged by rank.
/// </summary>
public sealed class Tokenizer
{
    private readonly Dictionary<string, int> _ids;
    private readonly Dictionary<(int, int), (int Rank, int Merged)> _merges = [];
    private readonly ConcurrentDictionary<string, int[]> _cache = []; // studies are encoded on several threads
    private readonly Regex _special;
    private readonly Dictionary<char, byte> _bytes = [];

    /// <summary>Prepares the look-ups.</summary>
    public Tokenizer(TokenizerData data)
    {
        Data = data;
        _ids = data.Tokens.Select((token, id) => (token, id)).ToDictionary(t => t.token, t => t.id);
        for (int rank = 0; rank < data.Merges.Count; rank++)
        {
            string[] halves = data.Merges[rank].Split(' ');
            _merges.TryAdd((_ids[halves[0]], _ids[halves[1]]), (rank, _ids[halves[0] + halves[1]]));
        }
        _special = new Regex("(" + string.Join('|', data.SpecialTokens.OrderByDescending(t => t.Length).Select(Regex.Escape)) + ")");
        for (int value = 0; value < 256; value++)
            _bytes[TokenizerData.ByteAlphabet[value]] = (byte)value;
    }

    /// <summary>What this tokenizer was made from.</summary>
    public TokenizerData Data { get; }

    /// <summary>Ids of a plain text; what looks like a special token is text.</summary>
    public List<int> Encode(string text)
    {
        var ids = new List<int>(text.Length);
        foreach (string piece in TextSplitter.Split(text))
            ids.AddRange(Piece(piece));
        return ids;
    }

    /// <summary>Ids of a prompt, in which special tokens stand spelt out; those the vocabulary lacks are text.</summary>
    public List<int> EncodePrompt(string prompt)
    {
        var ids = new List<int>();
        foreach (string part in _special.Split(prompt)) // the parentheses keep the special tokens as parts
        {
            if (Data.SpecialTokens.Contains(part))
                ids.Add(Data.SpecialId(part));
            else
                ids.AddRange(Encode(part));
        }
        return ids;
    }

    /// <summary>The text of ids; special tokens are left out, bytes that are no UTF-8 become U+FFFD.</summary>
    public string Decode(IEnumerable<int> ids)
    {
        var bytes = new List<byte>();
        foreach (int id in ids.Where(id => id < Data.Tokens.Count))
            bytes.AddRange(Data.Tokens[id].Select(c => _bytes[c]));
        return Encoding.UTF8.GetString([.. bytes]);
    }

    private int[] Piece(string piece)
    {
        if (_cache.TryGetValue(piece, out int[]? known))
            return known;
        var symbols = Encoding.UTF8.GetBytes(piece).Select(b => TokenizerData.ByteAlphabet[b]).ToArray();
        if (_ids.TryGetValue(new string(symbols), out int whole))
            return _cache[piece] = [whole];
        var ids = symbols.Select(c => _ids[c.ToString()]).ToList();
        while (true)
        {
            int at = -1;
            (int Rank, int Merged) best = (int.MaxValue, 0);
            for (int i = 0; i + 1 < ids.Count; i++)
            {
                if (_merges.TryGetValue((ids[i], ids[i + 1]), out var merge) && merge.Rank < best.Rank)
                    (at, best) = (i, merge);
            }
            if (at < 0)
                return _cache[piece] = [.. ids];
            ids[at] = best.Merged;
            ids.RemoveAt(at + 1);
        }
    }
}
