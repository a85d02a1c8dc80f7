namespace Pcrl.Runtime.Language;

/// <summary>
/// Decides how far to draft. One more row in a batch takes a measurable time in which the decoder would otherwise write a measurable
/// number of tokens; a row is worth it if the chance that its token is used exceeds that number. Both sides are learnt while
/// running: what a row costs on this device, and how often drafts of a given confidence were right lately.
/// </summary>
internal sealed class DraftPolicy
{
    private const int Levels = 10;

    /// <summary>What was measured a hundred batches ago counts a third.</summary>
    private const double Memory = 0.99;

    // Without limits a wrong start would stay: nothing drafted teaches nothing.
    private const double LeastThreshold = 0.1, MostThreshold = 0.9;

    private readonly double[] _tried = new double[Levels], _right = new double[Levels];
    private double _batches, _rows, _rowsSquared, _seconds, _rowSeconds, _tokens;

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

    /// <summary>Chance of use below which a row is not worth its time, 0 to 1.</summary>
    public double Threshold
    {
        get
        {
            double spread = _batches * _rowsSquared - _rows * _rows;
            if (_seconds == 0 || spread < 1e-3 * _batches * _batches)
                return LeastThreshold; // batches of one width only: nothing known of others
            double secondsOfRow = (_batches * _rowSeconds - _rows * _seconds) / spread;
            return Math.Clamp(secondsOfRow * _tokens / _seconds, LeastThreshold, MostThreshold);
        }
    }

    /// <summary>Takes note of a draft that was looked at.</summary>
    public void Verified(double confidence, bool right)
    {
        int level = Level(confidence);
        _tried[level] = Memory * _tried[level] + 1;
        _right[level] = Memory * _right[level] + (right ? 1 : 0);
    }

    /// <summary>Takes note of a batch without prompts.</summary>
    public void Measured(int rows, double seconds, int tokens)
    {
        // A batch during which something else had the processor would say nothing about rows.
        if (_batches > 20 && seconds > 5 * _seconds / _batches)
            return;
        _batches = Memory * _batches + 1;
        _rows = Memory * _rows + rows;
        _rowsSquared = Memory * _rowsSquared + (double)rows * rows;
        _seconds = Memory * _seconds + seconds;
        _rowSeconds = Memory * _rowSeconds + rows * seconds;
        _tokens = Memory * _tokens + tokens;
    }

    private static int Level(double confidence) => Math.Min((int)(confidence * Levels), Levels - 1);
}
