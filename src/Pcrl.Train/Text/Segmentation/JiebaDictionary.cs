using System.Text;
using Pcrl.Runtime;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Text.Segmentation;

/// <summary>
/// jieba's words with their frequencies. Every beginning of a word is an entry too, with frequency 0, so that a search
/// knows when no longer word can follow.
/// </summary>
public sealed class JiebaDictionary
{
    /// <summary>Longest user dictionary that is read, in bytes.</summary>
    private const long LongestUserDictionary = 64 << 20;

    private readonly Dictionary<string, int> _frequencies;
    private readonly Dictionary<string, int>.AlternateLookup<ReadOnlySpan<char>> _lookup;
    private readonly HashSet<string> _alwaysSplit = [];

    private JiebaDictionary(int capacity)
    {
        _frequencies = new Dictionary<string, int>(capacity);
        _lookup = _frequencies.GetAlternateLookup<ReadOnlySpan<char>>();
    }

    /// <summary>Sum of all frequencies.</summary>
    public long Total { get; private set; }

    /// <summary>jieba's own word list, which the build embeds. Each call gives a fresh copy to which words may be added.</summary>
    public static JiebaDictionary LoadDefault()
    {
        using var stream = typeof(JiebaDictionary).Assembly.GetManifestResourceStream("jieba/dict.txt")!;
        using var reader = new StreamReader(stream, Encoding.UTF8);
        var dictionary = new JiebaDictionary(capacity: 600_000);
        while (reader.ReadLine() is { } line)
        {
            int space = line.IndexOf(' ');
            int end = line.IndexOf(' ', space + 1);
            dictionary.Set(line[..space], int.Parse(line.AsSpan((space + 1)..(end < 0 ? line.Length : end))));
        }
        return dictionary;
    }

    /// <summary>Adds the brain-CT terms that ship with the program, so that 放射冠区 or 低密度影 is one word.</summary>
    public void AddMedicalWords()
    {
        using var stream = typeof(JiebaDictionary).Assembly.GetManifestResourceStream("jieba/medical.txt")!;
        using var reader = new StreamReader(stream, Encoding.UTF8);
        AddWords("medical.txt", reader.ReadToEnd().Split('\n'));
    }

    /// <summary>True if <paramref name="text"/> is a word or the beginning of one.</summary>
    /// <param name="text">The characters looked up.</param>
    /// <param name="frequency">How often it occurs; 0 for what is only a beginning.</param>
    public bool TryGet(ReadOnlySpan<char> text, out int frequency) => _lookup.TryGetValue(text, out frequency);

    /// <summary>True for a word that was added with frequency 0: the hidden Markov model must not join it.</summary>
    public bool IsAlwaysSplit(string word) => _alwaysSplit.Contains(word);

    /// <summary>
    /// Adds the words of a user dictionary in jieba's format: one a line, <c>word [frequency] [tag]</c>. A word without frequency gets one
    /// that is just large enough for it to be cut out whole; frequency 0 forbids the word.
    /// </summary>
    /// <exception cref="InputException">The file is missing, unreadable, larger than 64 MB or not UTF-8.</exception>
    public void AddUserDictionary(string path)
    {
        try
        {
            if (path.Length == 0)
                throw new InputException("user dictionary", "the file name is empty");
            using var file = new CheckedUtf8Stream(path, new FileStream(path, FileMode.Open, FileAccess.Read), LongestUserDictionary);
            using var reader = new StreamReader(file, Encoding.UTF8);
            AddWords(path, reader.ReadToEnd().Split('\n'));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw InputException.Unreadable(path, e);
        }
    }

    /// <summary>Adds words in the format of <see cref="AddUserDictionary"/>.</summary>
    /// <param name="source">What an error message names as the origin.</param>
    /// <param name="lines">One entry each; empty lines are skipped.</param>
    /// <exception cref="InputException">A frequency is not an integer of 32 bits.</exception>
    public void AddWords(string source, IEnumerable<string> lines)
    {
        int number = 0;
        foreach (string raw in lines)
        {
            number++;
            string line = raw.Trim().TrimStart('\uFEFF');
            if (line.Length == 0)
                continue;
            var (word, frequency) = Split(line);
            int value = 0;
            if (frequency.Length > 0 && !int.TryParse(frequency, out value))
                throw new InputException(source, $"line {number}: the frequency does not fit 32 bits");
            if (frequency.Length == 0)
                value = SuggestFrequency(word);
            Set(word, value);
            if (value == 0)
                _alwaysSplit.Add(word);
        }
    }

    /// <summary>The words of <c>word [ digits] [ lower-case tag]</c>: the word takes what the optional parts leave, but never nothing.</summary>
    private static (string Word, string Frequency) Split(string line)
    {
        string rest = line;
        int space = rest.LastIndexOf(' ');
        if (space > 0 && space < rest.Length - 1 && rest.AsSpan(space + 1).IndexOfAnyExceptInRange('a', 'z') < 0)
            rest = rest[..space];
        space = rest.LastIndexOf(' ');
        return space > 0 && space < rest.Length - 1 && rest.AsSpan(space + 1).IndexOfAnyExceptInRange('0', '9') < 0
            ? (rest[..space], rest[(space + 1)..])
            : (rest, "");
    }

    /// <summary>The smallest frequency at which the word beats the words it is cut into now.</summary>
    private int SuggestFrequency(string word)
    {
        double share = 1;
        foreach (string part in new JiebaSegmenter(this, model: null).Cut(word))
            share *= (TryGet(part, out int frequency) ? frequency : 1) / (double)Total;
        int suggested = (int)Math.Min(int.MaxValue - 1, share * Total) + 1;
        return Math.Max(suggested, TryGet(word, out int known) ? known : 1);
    }

    private void Set(string word, int frequency)
    {
        _frequencies[word] = frequency;
        Total += frequency;
        // Beginnings of an earlier word that are longer than a known one are known too: stop at the first one found from the end.
        for (int length = word.Length - 1; length > 0; length--)
        {
            if (_lookup.ContainsKey(word.AsSpan(0, length)))
                break;
            _lookup[word.AsSpan(0, length)] = 0;
        }
    }
}
