using Pcrl.Train.Text.Segmentation;

namespace Pcrl.Train.Evaluation;

/// <summary>
/// The row of the paper's Table 2 for a set of reports, with the strict scores of findings beside it. Text metrics are over jieba words with the medical user
/// dictionary; CE is over the entity keywords. All lie in 0..1 but CIDEr, 0..10.
/// </summary>
public sealed record ReportScore(
    double Bleu1, double Bleu2, double Bleu3, double Bleu4, double Meteor, double RougeL, double Cider, double CeF1, double CeF1Macro, double FindingsF1,
    double MainLesion, double AnyLesion)
{
    private static readonly Lazy<Tokenisation> Words = new(() =>
    {
        var dictionary = JiebaDictionary.LoadDefault();
        dictionary.AddMedicalWords();
        return Tokenisation.Jieba(new JiebaSegmenter(dictionary, HiddenMarkovModel.LoadDefault()));
    });

    /// <summary>Scores reports.</summary>
    /// <param name="references">True findings.</param>
    /// <param name="reports">Generated ones, in the same order.</param>
    /// <param name="cancellation">Stops the work.</param>
    public static ReportScore Of(IReadOnlyList<string> references, IReadOnlyList<string> reports, CancellationToken cancellation = default)
    {
        IReadOnlyList<IReadOnlyList<string>> lists = [.. references.Select(r => new[] { r })];
        var scores = new Dictionary<string, double>();
        foreach (var measure in new TextMetrics(Words.Value, lists).Score(reports, cancellation)
            .Append(ClinicalEfficacy.Entities(reports, lists)).Append(ClinicalEfficacy.Findings(reports, lists)))
        {
            double[] values = measure.Total();
            for (int i = 0; i < values.Length; i++)
                scores[measure.Names[i]] = values[i];
        }
        var strict = FindingScore.Of([.. references.Zip(reports)]);
        return new ReportScore(
            scores["BLEU-1"], scores["BLEU-2"], scores["BLEU-3"], scores["BLEU-4"], scores["METEOR"], scores["ROUGE-L"], scores["CIDEr"],
            scores["CE-F1-micro"], scores["CE-F1-macro"], scores["Findings-F1-micro"], strict.MainLesion, strict.AnyLesion);
    }

    /// <summary>What copying training reports scores on the same references, as rows of a table: the commonest one for every study, and one retrieved for each.</summary>
    /// <param name="references">True findings.</param>
    /// <param name="train">Findings of the training studies, at least one.</param>
    /// <param name="retrieved">Training reports, in the order of the references.</param>
    /// <param name="cancellation">Stops the work.</param>
    public static IReadOnlyList<AblationRow> Copying(
        IReadOnlyList<string> references, IReadOnlyList<string> train, IReadOnlyList<string> retrieved, CancellationToken cancellation = default)
    {
        string commonest = train.CountBy(text => text).MaxBy(entry => entry.Value).Key;
        return
        [
            new AblationRow(Evaluator.MostFrequentName, "copied", [Of(references, [.. references.Select(_ => commonest)], cancellation)]),
            new AblationRow(Evaluator.NearestName, "copied", [Of(references, retrieved, cancellation)]),
        ];
    }

    /// <summary>For each report the training report that is nearest in its words (see <see cref="Baselines.Nearest"/>).</summary>
    public static IReadOnlyList<string> Nearest(IReadOnlyList<string> reports, IReadOnlyList<string> train)
    {
        var baselines = new Baselines(train, Words.Value);
        return [.. reports.Select(baselines.Nearest)];
    }

    /// <summary>CE-F1, micro, alone.</summary>
    public static double EntityF1(IReadOnlyList<string> references, IReadOnlyList<string> reports)
    {
        var measure = ClinicalEfficacy.Entities(reports, [.. references.Select(r => new[] { r })]);
        return measure.Total()[measure.Names.ToList().IndexOf("CE-F1-micro")];
    }
}
