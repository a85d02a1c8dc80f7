namespace Pcrl.Train.Fitting;

/// <summary>How far a stage is.</summary>
/// <param name="Stage">Its name.</param>
/// <param name="Done">Units done.</param>
/// <param name="Total">Units in all.</param>
/// <param name="Unit">What is counted: studies, steps.</param>
/// <param name="Elapsed">Since the stage began or went on.</param>
/// <param name="Loss">Running mean of the loss; null where there is none.</param>
public readonly record struct StageProgress(string Stage, int Done, int Total, string Unit, TimeSpan Elapsed, double? Loss)
{
    /// <summary>Units that were done when the stage went on.</summary>
    public int First { get; init; }

    /// <summary>What else there is to say, such as the parts of the loss; null for nothing.</summary>
    public string? Detail { get; init; }

    /// <summary>Units a second.</summary>
    public double Rate => Elapsed.TotalSeconds > 0 ? (Done - First) / Elapsed.TotalSeconds : 0;

    /// <summary>Time the rest will take at this rate.</summary>
    public TimeSpan Remaining => TimeSpan.FromSeconds(Rate > 0 ? (Total - Done) / Rate : 0);
}
