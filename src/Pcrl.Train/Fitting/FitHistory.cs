using System.Globalization;
using System.Text;

namespace Pcrl.Train.Fitting;

/// <summary>A step of the joint fit.</summary>
/// <param name="Step">Its number, from 1.</param>
/// <param name="Loss">L, with the coefficients.</param>
/// <param name="Parts">Its parts, without.</param>
/// <param name="LearningRate">Of this step.</param>
/// <param name="TokensPerSecond">Tokens that the LLM read.</param>
public sealed record StepRecord(int Step, double Loss, LossParts Parts, double LearningRate, double TokensPerSecond);

/// <summary>A report beside its reference.</summary>
public sealed record SampleReport(string Reference, string Generated);

/// <summary>A look at the validation studies.</summary>
/// <param name="Step">After how many steps.</param>
/// <param name="Loss">L of the validation studies.</param>
/// <param name="CeF1">Micro F1 of the entities that their greedy reports name.</param>
/// <param name="Samples">A few of these reports.</param>
public sealed record EpochRecord(int Step, double Loss, double CeF1, IReadOnlyList<SampleReport> Samples);

/// <summary>How a joint fit went.</summary>
public sealed record FitHistory
{
    /// <summary>Every step.</summary>
    public List<StepRecord> Steps { get; init; } = [];

    /// <summary>Every look at the validation studies.</summary>
    public List<EpochRecord> Epochs { get; init; } = [];

    /// <summary>The epoch of the highest CE-F1, the first of equals.</summary>
    internal EpochRecord? Best => Epochs.MaxBy(e => e.CeF1);

    /// <summary>Whether the last <paramref name="patience"/> epochs brought nothing better.</summary>
    internal bool Stopped(int patience) => patience > 0 && Best is { } best && Epochs.Count - Epochs.IndexOf(best) > patience;

    /// <summary>One line a step; what was not measured after a step is left empty.</summary>
    public string ToCsv()
    {
        var text = new StringBuilder("step,loss,report,segmentation,entity,theme,learning_rate,tokens_per_second,validation_loss,validation_ce_f1\n");
        var epochs = Epochs.ToDictionary(e => e.Step);
        foreach (var s in Steps)
        {
            text.Append(CultureInfo.InvariantCulture, $"{s.Step},{s.Loss:G6},{s.Parts.Report:G6},{s.Parts.Segmentation:G6},{s.Parts.Entity:G6},{s.Parts.Theme:G6},");
            text.Append(CultureInfo.InvariantCulture, $"{s.LearningRate:G6},{s.TokensPerSecond:F0},");
            text.Append(epochs.TryGetValue(s.Step, out var e) ? string.Create(CultureInfo.InvariantCulture, $"{e.Loss:G6},{e.CeF1:G4}\n") : ",\n");
        }
        return text.ToString();
    }

    /// <summary>The sample reports of every epoch beside their references.</summary>
    public string ToSamples()
    {
        var text = new StringBuilder();
        foreach (var epoch in Epochs)
        {
            text.AppendLine(CultureInfo.InvariantCulture, $"step {epoch.Step}: validation loss {epoch.Loss:0.000}, CE-F1 {epoch.CeF1:0.000}");
            foreach (var sample in epoch.Samples)
                text.AppendLine(CultureInfo.InvariantCulture, $"  reference: {sample.Reference}\n  generated: {sample.Generated}");
        }
        return text.ToString();
    }
}
