namespace Pcrl.Train.Text.Segmentation;

/// <summary>
/// Chinese word segmentation as jieba 0.42.1 does it in its precise mode: the likeliest path through the words of the dictionary, then the
/// hidden Markov model over what is left as single characters. The words of a text, joined, are the text.
/// </summary>
/// <param name="dictionary">Words and frequencies. May be shared by threads once no more words are added.</param>
/// <param name="model">The model, or null for jieba's <c>HMM=False</c>.</param>
public sealed class JiebaSegmenter(JiebaDictionary dictionary, HiddenMarkovModel? model)
{
    /// <summary>Cuts a text into words; white space and punctuation are words of their own.</summary>
    public List<string> Cut(string text)
    {
        var words = new List<string>();
        int at = 0;
        while (at < text.Length)
        {
            int end = at;
            while (end < text.Length && IsWordCharacter(text[end]))
                end++;
            if (end > at)
            {
                CutBlock(text.AsSpan(at, end - at), words);
                at = end;
                continue;
            }
            // Outside words every character stands alone, but a Windows line end and a surrogate pair stay together.
            bool pair = at + 1 < text.Length && ((text[at] == '\r' && text[at + 1] == '\n') || char.IsSurrogatePair(text[at], text[at + 1]));
            int length = pair ? 2 : 1;
            words.Add(text.Substring(at, length));
            at += length;
        }
        return words;
    }

    private static bool IsWordCharacter(char c) => HiddenMarkovModel.Covers(c) || char.IsAsciiLetterOrDigit(c) || c is '+' or '#' or '&' or '.' or '_' or '%' or '-';

    private void CutBlock(ReadOnlySpan<char> block, List<string> words)
    {
        int[] ends = BestPath(block);
        int single = 0; // start of a run of one-character words that is still to be decided
        int at = 0;
        while (at < block.Length)
        {
            bool keep = ends[at] - at > 1 || (model is null && !char.IsAsciiLetterOrDigit(block[at]));
            if (keep)
            {
                FlushSingles(block[single..at], words);
                words.Add(new string(block[at..ends[at]]));
                single = ends[at];
            }
            at = ends[at];
        }
        FlushSingles(block[single..], words);
    }

    /// <summary>
    /// The end of the best word at each position: dynamic programming from the back over log frequencies. Of equally good words the longest wins.
    /// </summary>
    private int[] BestPath(ReadOnlySpan<char> block)
    {
        var ends = new int[block.Length];
        var score = new double[block.Length + 1];
        double logTotal = Math.Log(dictionary.Total);
        for (int at = block.Length - 1; at >= 0; at--)
        {
            double best = double.NegativeInfinity;
            int bestEnd = at + 1;
            for (int end = at + 1; end <= block.Length && dictionary.TryGet(block[at..end], out int frequency); end++)
            {
                if (frequency == 0)
                    continue;
                double value = Math.Log(frequency) - logTotal + score[end];
                if (value >= best)
                    (best, bestEnd) = (value, end);
            }
            if (double.IsNegativeInfinity(best))
                best = Math.Log(1) - logTotal + score[at + 1];
            (score[at], ends[at]) = (best, bestEnd);
        }
        return ends;
    }

    /// <summary>Cuts a run that the dictionary left as single characters.</summary>
    private void FlushSingles(ReadOnlySpan<char> run, List<string> words)
    {
        if (run.IsEmpty)
            return;
        if (model is null)
        {
            words.Add(new string(run)); // only Latin letters and digits wait here without a model: they form one word
        }
        else if (run.Length == 1 || (dictionary.TryGet(run, out int frequency) && frequency > 0))
        {
            foreach (char c in run) // a word of the dictionary that the best path did not take stays apart
                words.Add(c.ToString());
        }
        else
        {
            CutUnknown(run, words);
        }
    }

    private void CutUnknown(ReadOnlySpan<char> run, List<string> words)
    {
        int at = 0;
        while (at < run.Length)
        {
            int end = at;
            while (end < run.Length && HiddenMarkovModel.Covers(run[end]))
                end++;
            if (end > at)
            {
                foreach (int length in model!.Cut(run[at..end]))
                {
                    AddUnlessForbidden(new string(run.Slice(at, length)), words);
                    at += length;
                }
                continue;
            }
            end = char.IsAsciiLetterOrDigit(run[at]) ? EndOfNumber(run, at) : EndOfSymbols(run, at);
            words.Add(new string(run[at..end]));
            at = end;
        }
    }

    private void AddUnlessForbidden(string word, List<string> words)
    {
        if (!dictionary.IsAlwaysSplit(word))
            words.Add(word);
        else
            words.AddRange(word.Select(c => c.ToString()));
    }

    /// <summary>Letters and digits, then a decimal part, then a per-cent sign.</summary>
    private static int EndOfNumber(ReadOnlySpan<char> run, int at)
    {
        int end = at;
        while (end < run.Length && char.IsAsciiLetterOrDigit(run[end]))
            end++;
        int digits = end + 1;
        while (digits < run.Length && run[end] == '.' && char.IsAsciiDigit(run[digits]))
            digits++;
        if (digits > end + 1)
            end = digits;
        return end < run.Length && run[end] == '%' ? end + 1 : end;
    }

    private static int EndOfSymbols(ReadOnlySpan<char> run, int at)
    {
        while (at < run.Length && !char.IsAsciiLetterOrDigit(run[at]) && !HiddenMarkovModel.Covers(run[at]))
            at++;
        return at;
    }
}
