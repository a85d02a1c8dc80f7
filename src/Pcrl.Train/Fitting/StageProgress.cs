namespace Pcrl.Train.Fitting;

/// <summary>How far a stage is.</summary>
/// <param name="Stage">Its name.</param>
/// <param name="Done">Units done.</param>
/// <param name="Total">Units in all.</param>
/// <param name="Unit">What is counted: studies, steps.</param>
/// <param name="Elapsed">Since the stage began.</param>
/// <param name="Loss">Running mean of the loss; null where there is none.</param>
public readonly record struct StageProgress(string Stage, int Done, int Total, string Unit, TimeSpan Elapsed, double? Loss)
{
    /// <summary>Units a second.</summary>
    public double Rate => Elapsed.TotalSeconds > 0 ? Done / Elapsed.TotalSeconds : 0;

    /// <summary>Time the rest will take at this rate.</summary>
    public TimeSpan Remaining => TimeSpan.FromSeconds(Rate > 0 ? (Total - Done) / Rate : 0);
}
