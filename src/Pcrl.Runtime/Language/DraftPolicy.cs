namespace Pcrl.Runtime.Language;

/// <summary>
/// Decides how far to draft: as far as makes the most tokens in the least time. Both sides are learnt while running: what a batch of so many rows
/// takes on this device, and how often drafts of a given confidence were right lately.
/// </summary>
internal sealed class DraftPolicy
{
    /// <summary>A drafted token with less chance is not looked at.</summary>
    public const double LeastChance = 0.1;

    private const int Levels = 10;

    /// <summary>What was measured a hundred batches ago counts a third.</summary>
    private const double Memory = 0.99;

    /// <summary>Batches up to so many rows have a time of their own each; others are taken to grow evenly.</summary>
    private const int Widths = 512;

    /// <summary>
    /// The share of the newest measurement in the time of a width, where it is slower than was known: mostly something else had the processor meanwhile. A
    /// faster one is the truth.
    /// </summary>
    private const double Slower = 0.05;

    /// <summary>A width not tried for so many batches is taken from the others' times again: a wrong figure must not stay.</summary>
    private const int Stale = 200;

    private readonly double[] _tried = new double[Levels], _right = new double[Levels];

    /// <summary>By whether the batch before had the same width (llama.cpp then keeps its graph), and by width: seconds, and when they were measured.</summary>
    private readonly (double Seconds, int At)[,] _widths = new (double, int)[2, Widths + 1];

    private double _batches, _rows, _rowsSquared, _seconds, _rowSeconds;
    private int _count, _lastRows;

    /// <summary>Until something was measured a draft's own confidence is believed, with the weight of this many trials.</summary>
    public DraftPolicy()
    {
        const double Trials = 8;
        for (int level = 0; level < Levels; level++)
            (_tried[level], _right[level]) = (Trials, Trials * (level + 0.5) / Levels);
    }

    /// <summary>The chance that a drafted token is right.</summary>
    /// <param name="confidence">Share of the phrase model's likeliest token, 0 to 1.</param>
    public double Chance(double confidence) => _right[Level(confidence)] / _tried[Level(confidence)];

    /// <summary>How many drafted tokens of each text to check in the next batch.</summary>
    /// <param name="gains">Tokens that the first, second, … drafted tokens of all texts are likely to make; they fall.</param>
    /// <param name="texts">Texts in the batch, each of which gets a token without any.</param>
    public int Worth(ReadOnlySpan<double> gains, int texts)
    {
        double tokens = texts;
        foreach (double gain in gains)
            tokens += gain;
        var (best, most, least, wider) = (0, 0.0, double.PositiveInfinity, Widths);
        for (int depth = gains.Length; depth >= 0; depth--)
        {
            int rows = texts * (1 + depth);
            for (; wider > rows; wider--)
                least = Math.Min(least, Took(wider) ?? least); // fewer rows take no longer
            least = Math.Min(least, Took(rows) ?? Expected(rows));
            if (tokens / least > most)
                (best, most) = (depth, tokens / least);
            tokens -= depth > 0 ? gains[depth - 1] : 0;
        }
        return best;
    }

    /// <summary>Takes note of a draft that was looked at.</summary>
    public void Verified(double confidence, bool right)
    {
        int level = Level(confidence);
        _tried[level] = Memory * _tried[level] + 1;
        _right[level] = Memory * _right[level] + (right ? 1 : 0);
    }

    /// <summary>Takes note of a batch without prompts.</summary>
    public void Measured(int rows, double seconds)
    {
        if (rows <= Widths)
        {
            ref var width = ref _widths[rows == _lastRows ? 1 : 0, rows];
            seconds = IsFresh(width) ? Math.Min(seconds, width.Seconds + Slower * (seconds - width.Seconds)) : seconds;
            width = (seconds, ++_count);
        }
        _batches = Memory * _batches + 1;
        _rows = Memory * _rows + rows;
        _rowsSquared = Memory * _rowsSquared + (double)rows * rows;
        _seconds = Memory * _seconds + seconds;
        _rowSeconds = Memory * _rowSeconds + rows * seconds;
        _lastRows = rows;
    }

    /// <summary>What batches of a width took lately, or null.</summary>
    private double? Took(int rows)
    {
        if (rows > Widths)
            return null;
        var (anew, same) = (_widths[0, rows], _widths[1, rows]);
        if (rows == _lastRows && IsFresh(same))
            return same.Seconds;
        return IsFresh(anew) ? anew.Seconds : IsFresh(same) ? same.Seconds : null;
    }

    /// <summary>What the other widths let expect: a time for the batch and one for each row.</summary>
    private double Expected(int rows)
    {
        if (_batches == 0)
            return 1;
        double spread = _batches * _rowsSquared - _rows * _rows;
        // Batches of one width only: more rows cost nothing until they were seen to.
        double ofRow = spread < 1e-3 * _batches * _batches ? 0 : Math.Max(0, (_batches * _rowSeconds - _rows * _seconds) / spread);
        return Math.Max((_seconds - ofRow * _rows) / _batches + ofRow * rows, 1e-9);
    }

    private bool IsFresh((double Seconds, int At) width) => width.At > 0 && _count - width.At < Stale;

    private static int Level(double confidence) => Math.Min((int)(confidence * Levels), Levels - 1);
}
