using System.Globalization;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Fitting;
using static TorchSharp.torch;

namespace Pcrl.Train.Evaluation;

/// <summary>What a model's report says of blood on one scan, beside the label.</summary>
/// <param name="Patient">The scan.</param>
/// <param name="Fold">The fold in which it was held out, from 0.</param>
/// <param name="Bleeding">The label.</param>
/// <param name="Probability">
/// That the report's first sentence states blood (see <see cref="FirstSentence"/>), in whatever words: every label-derived text states or denies it there.
/// </param>
/// <param name="Trunk">What the trunk knows by itself: the highest logit that its head of the slice labels gives a slice for blood.</param>
/// <param name="Report">The greedy report.</param>
/// <param name="Ended">It came to its end before the token limit.</param>
public sealed record HaemorrhageCase(string Patient, int Fold, bool Bleeding, double Probability, double Trunk, string Report, bool Ended)
{
    /// <summary>The greedy report states blood.</summary>
    public bool Stated => StatesBlood(Report);

    /// <summary>Asks a model about held-out scans, and the head that taught its trunk.</summary>
    internal static List<HaemorrhageCase> Measure(
        TrainedRun run, TrunkHeads heads, IReadOnlyList<RealScan> scans, int fold, FeatureCache features, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var reports = ReportWriter.Write(run, features, progress, cancellation);
        using var nothing = no_grad();
        int longest = ReportWriter.MaximumTokens(run);
        var cases = new List<HaemorrhageCase>();
        for (int i = 0; i < scans.Count; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            var slices = features.Take([i]);
            double trunk = heads.Slice.forward(slices.Pooled).select(1, SliceLabels.IndexOf("any-blood")).max().cpu().item<float>();
            double probability = FirstSentence.Probability(run, run.Model.VisualTokens(slices, 1), StatesBlood);
            cases.Add(new HaemorrhageCase(
                scans[i].Patient, fold, scans[i].Bleeding, probability, trunk, reports[i], run.Tokenizer.Encode(reports[i]).Count < longest - 2));
        }
        return cases;
    }

    private static bool StatesBlood(string text) => FindingFacts.Parse(text).Lesions.Any(l => LabelFindings.Kinds.Contains(l.Kind));
}

/// <summary>How well reports tell scans with blood from scans without.</summary>
/// <param name="Auc">Area under the ROC curve of <see cref="HaemorrhageCase.Probability"/>; NaN where only one kind of scan is there.</param>
/// <param name="AucInterval">95 % bootstrap interval over scans.</param>
/// <param name="TrunkAuc">The same area over <see cref="HaemorrhageCase.Trunk"/>: what report and LLM add or lose shows beside it.</param>
/// <param name="Sensitivity">Share of scans with blood whose greedy report states blood.</param>
/// <param name="Specificity">Share of scans without blood whose greedy report states none.</param>
/// <param name="Ended">Share of greedy reports that end before the token limit.</param>
/// <param name="Scans">Cases.</param>
public sealed record HaemorrhageScore(double Auc, Interval AucInterval, double TrunkAuc, double Sensitivity, double Specificity, double Ended, int Scans)
{
    private const int Resamples = 2000;

    /// <summary>Mean of sensitivity and specificity.</summary>
    public double BalancedAccuracy => (Sensitivity + Specificity) / 2;

    /// <summary>Scores cases.</summary>
    public static HaemorrhageScore Of(IReadOnlyList<HaemorrhageCase> cases)
    {
        var random = new Random(1);
        var samples = Enumerable.Range(0, Resamples)
            .Select(_ => AreaUnderCurve([.. cases.Select(_ => cases[random.Next(cases.Count)])], c => c.Probability)).Where(double.IsFinite).ToList();
        return new HaemorrhageScore(
            AreaUnderCurve(cases, c => c.Probability), samples.Count > 0 ? Resampling.Middle(samples) : new Interval(double.NaN, double.NaN),
            AreaUnderCurve(cases, c => c.Trunk),
            cases.Where(c => c.Bleeding).Select(c => c.Stated ? 1.0 : 0).DefaultIfEmpty(double.NaN).Average(),
            cases.Where(c => !c.Bleeding).Select(c => c.Stated ? 0.0 : 1).DefaultIfEmpty(double.NaN).Average(),
            cases.Average(c => c.Ended ? 1.0 : 0), cases.Count);
    }

    /// <summary>Chance that a scan with blood scores higher of a random pair; ties count one half.</summary>
    private static double AreaUnderCurve(IReadOnlyList<HaemorrhageCase> cases, Func<HaemorrhageCase, double> score)
    {
        double[] ill = [.. cases.Where(c => c.Bleeding).Select(score)], well = [.. cases.Where(c => !c.Bleeding).Select(score)];
        double wins = ill.Sum(i => well.Sum(w => i > w ? 1 : i == w ? 0.5 : 0));
        return wins / ((double)ill.Length * well.Length);
    }

    /// <inheritdoc/>
    public override string ToString() => string.Create(CultureInfo.InvariantCulture,
        $"{Scans,3} scans  AUC {Auc:0.000} [{AucInterval.Low:0.000}, {AucInterval.High:0.000}] (trunk alone {TrunkAuc:0.000})  balanced accuracy {BalancedAccuracy:0.000} " +
        $"(sensitivity {Sensitivity:0.000}, specificity {Specificity:0.000})  texts that end {Ended:0.000}");
}
