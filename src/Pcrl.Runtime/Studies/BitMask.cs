using System.Numerics;

namespace Pcrl.Runtime.Studies;

/// <summary>A picture of yes and no, a bit each: 64 of a row are one operation.</summary>
/// <param name="columns">Bits per row.</param>
/// <param name="rows">Rows.</param>
internal sealed class BitMask(int columns, int rows)
{
    private readonly ulong[] _bits = new ulong[(columns + 63) / 64 * rows];

    /// <summary>Words of a row.</summary>
    public int Words => (columns + 63) / 64;

    /// <summary>Rows.</summary>
    public int Rows => rows;

    /// <summary>Bits of a row, the first column lowest; those after the last column stay 0.</summary>
    public Span<ulong> Row(int y) => _bits.AsSpan(y * Words, Words);

    /// <summary>Bits and box of each 4-connected part, ordered by each part's first bit, row by row.</summary>
    public List<(int Count, HeadBox Box)> Parts()
    {
        // Parts are joined runs; each run points to one before it of the same part, the first of a part to itself.
        var runs = new List<(int From, int To, int Row, int Before)>();
        for (int y = 0, above = 0; y < rows; y++)
        {
            int first = runs.Count;
            AddRuns(y, runs);
            for (int here = first, up = above; here < runs.Count && up < first;)
            {
                if (runs[here].From < runs[up].To && runs[up].From < runs[here].To)
                    Join(runs, here, up);
                if (runs[here].To < runs[up].To)
                    here++;
                else
                    up++;
            }
            above = first;
        }
        var parts = new List<(int Count, HeadBox Box)>();
        var partOf = new int[runs.Count];
        for (int i = 0; i < runs.Count; i++)
        {
            var (from, to, y, before) = runs[i];
            if (before == i)
            {
                partOf[i] = parts.Count;
                parts.Add((to - from, new HeadBox(from, y, to, y + 1)));
                continue;
            }
            int part = partOf[i] = partOf[before];
            var (count, box) = parts[part];
            parts[part] = (count + to - from, new HeadBox(Math.Min(box.Left, from), box.Top, Math.Max(box.Right, to), y + 1));
        }
        return parts;
    }

    private void AddRuns(int y, List<(int From, int To, int Row, int Before)> runs)
    {
        int first = runs.Count;
        var words = Row(y);
        for (int w = 0; w < words.Length; w++)
        {
            for (ulong bits = words[w]; bits != 0;)
            {
                int from = BitOperations.TrailingZeroCount(bits), to = from + BitOperations.TrailingZeroCount(~(bits >> from));
                bits = to < 64 ? bits & ulong.MaxValue << to : 0;
                if (from == 0 && runs.Count > first && runs[^1].To == 64 * w)
                    runs[^1] = runs[^1] with { To = 64 * w + to };
                else
                    runs.Add((64 * w + from, 64 * w + to, y, runs.Count));
            }
        }
    }

    private static void Join(List<(int From, int To, int Row, int Before)> runs, int a, int b)
    {
        (a, b) = (First(a), First(b));
        if (a != b)
            runs[Math.Max(a, b)] = runs[Math.Max(a, b)] with { Before = Math.Min(a, b) };

        int First(int run)
        {
            while (runs[run].Before != run)
                run = runs[run].Before;
            return run;
        }
    }
}
