using Pcrl.Runtime;

namespace Pcrl.Train.Text;

public sealed partial record TokenizerData
{
    private const int MetaSpecialTokens = 256;

    /// <summary>
    /// Reads Meta's <c>tokenizer.model</c>: lines of a token's bytes in base 64 and its rank. Merges follow from the ranks; the special tokens
    /// are not in the file and take the names that Meta's program gives them.
    /// </summary>
    /// <exception cref="InputException">Missing, or not such a file.</exception>
    public static TokenizerData LoadTiktoken(string path)
    {
        string[] tokens;
        try
        {
            tokens = InIdOrder(path, 0, [.. File.ReadLines(path).Where(line => line.Length > 0).Select(Token)]);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw InputException.Unreadable(path, e);
        }
        catch (FormatException e)
        {
            throw new InputException(path, "is not a tokenizer.model of LLaMA-3 (lines of base 64 and a rank)", e);
        }
        var data = new TokenizerData(tokens, MergesOf(tokens), MetaNames());
        data.Check(path);
        return data;
    }

    private static (int, string) Token(string line)
    {
        string[] words = line.Split(' ');
        return words.Length == 2
            ? (int.Parse(words[1], System.Globalization.CultureInfo.InvariantCulture), string.Concat(System.Convert.FromBase64String(words[0]).Select(b => ByteAlphabet[b])))
            : throw new FormatException();
    }

    /// <summary>Every way of cutting a token into two tokens is a merge; tokens come in the order of their ranks, the ways of one token in the order of its parts' ranks.</summary>
    private static List<string> MergesOf(string[] tokens)
    {
        var ranks = tokens.Select((token, rank) => (token, rank)).ToDictionary(t => t.token, t => t.rank);
        var merges = new List<string>();
        foreach (string token in tokens)
        {
            merges.AddRange(Enumerable.Range(1, token.Length - 1)
                .Select(i => (Left: token[..i], Right: token[i..]))
                .Where(p => ranks.ContainsKey(p.Left) && ranks.ContainsKey(p.Right))
                .OrderBy(p => (ranks[p.Left], ranks[p.Right]))
                .Select(p => $"{p.Left} {p.Right}"));
        }
        return merges;
    }

    private static List<string> MetaNames()
    {
        List<string> names =
        [
            BosToken, EosToken, "<|reserved_special_token_0|>", "<|reserved_special_token_1|>", "<|reserved_special_token_2|>",
            "<|reserved_special_token_3|>", "<|start_header_id|>", "<|end_header_id|>", "<|reserved_special_token_4|>", EndOfTurnToken,
        ];
        for (int number = 5; names.Count < MetaSpecialTokens; number++)
            names.Add($"<|reserved_special_token_{number}|>");
        return names;
    }
}
