using System.Globalization;
using System.Text;

namespace Pcrl.Train.Text.Segmentation;

/// <summary>
/// jieba's model for words that its dictionary lacks: each character begins a word (B), ends one (E), stands inside one (M) or is one alone (S);
/// the likeliest sequence of states (Viterbi) cuts the text.
/// </summary>
public sealed class HiddenMarkovModel
{
    private const char First = '\u4E00', Last = '\u9FD5';
    private const double Impossible = -3.14e100;
    private const int B = 0, E = 1, M = 2, S = 3;

    // The two states that may precede each one. Of equally likely ones the later in the alphabet wins, so that one comes second.
    private static readonly (int, int)[] Before = [(E, S), (B, M), (B, M), (E, S)];

    private readonly double[] _start;       // [4]
    private readonly double[][] _transition; // [4][4]: from, to
    private readonly double[][] _emission;  // [4][character - First]

    private HiddenMarkovModel(double[] start, double[][] transition, double[][] emission) =>
        (_start, _transition, _emission) = (start, transition, emission);

    /// <summary>The model of jieba, which the build embeds.</summary>
    public static HiddenMarkovModel LoadDefault()
    {
        using var stream = typeof(HiddenMarkovModel).Assembly.GetManifestResourceStream("jieba/hmm_model.utf8")!;
        using var reader = new StreamReader(stream, Encoding.UTF8);
        // Lines that don't begin with '#': start, four rows of transitions, four rows of emissions as "character:log probability,…".
        var lines = new List<string>();
        while (reader.ReadLine() is { } line)
        {
            if (line.Length > 0 && line[0] != '#')
                lines.Add(line);
        }
        return new HiddenMarkovModel(Row(lines[0]), [.. lines.Skip(1).Take(4).Select(Row)], [.. lines.Skip(5).Take(4).Select(Emissions)]);
    }

    /// <summary>True for the characters the model knows how to join.</summary>
    public static bool Covers(char c) => c is >= First and <= Last;

    /// <summary>Cuts a run of characters that are all <see cref="Covers">covered</see>.</summary>
    /// <returns>Lengths of the words, in order; they add up to the length of the run.</returns>
    public List<int> Cut(ReadOnlySpan<char> run)
    {
        int n = run.Length;
        var from = new byte[n, 4];
        Span<double> now = stackalloc double[4], next = stackalloc double[4];
        for (int state = 0; state < 4; state++)
            now[state] = _start[state] + _emission[state][run[0] - First];
        for (int t = 1; t < n; t++)
        {
            for (int state = 0; state < 4; state++)
            {
                double emission = _emission[state][run[t] - First];
                var (a, b) = Before[state];
                double viaA = now[a] + _transition[a][state] + emission, viaB = now[b] + _transition[b][state] + emission;
                next[state] = viaB >= viaA ? viaB : viaA;
                from[t, state] = (byte)(viaB >= viaA ? b : a);
            }
            next.CopyTo(now);
        }
        var states = new byte[n];
        states[n - 1] = (byte)(now[S] >= now[E] ? S : E);
        for (int t = n - 1; t > 0; t--)
            states[t - 1] = from[t, states[t]];

        var lengths = new List<int>();
        int begin = 0;
        for (int t = 0; t < n; t++)
        {
            if (states[t] is E or S)
            {
                lengths.Add(t + 1 - begin);
                begin = t + 1;
            }
        }
        return lengths;
    }

    private static double[] Row(string line) => [.. line.Split(' ').Select(v => double.Parse(v, CultureInfo.InvariantCulture))];

    private static double[] Emissions(string line)
    {
        var row = new double[Last - First + 1];
        Array.Fill(row, Impossible);
        foreach (var range in line.AsSpan().Split(','))
        {
            var entry = line.AsSpan(range);
            if (entry.Length > 2 && Covers(entry[0]))
                row[entry[0] - First] = double.Parse(entry[2..], CultureInfo.InvariantCulture);
        }
        return row;
    }
}
