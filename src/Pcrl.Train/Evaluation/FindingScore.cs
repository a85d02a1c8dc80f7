using System.Globalization;
using System.Text;

namespace Pcrl.Train.Evaluation;

/// <summary>
/// How right generated reports are, by the facts of both texts (<see cref="FindingFacts.Parse"/>). Shares lie in 0..1; a share of nothing is NaN.
/// </summary>
/// <param name="Cases">Number of pairs.</param>
/// <param name="LesionCases">Pairs whose reference states a focal lesion.</param>
/// <param name="MainLesion">Of the lesion cases: kind, region and side of the reference's main lesion are those of the generated text's main lesion.</param>
/// <param name="MainKind">Of the lesion cases: its kind agrees.</param>
/// <param name="MainRegion">Of the lesion cases: its region agrees.</param>
/// <param name="MainSide">Of the lesion cases: its side agrees.</param>
/// <param name="AnyLesion">Of all lesions in the references: the generated text states the same, in whatever order.</param>
/// <param name="Ventricles">Of all cases: the words on ventricular size agree.</param>
/// <param name="Atrophy">Of all cases: the words on sulci agree.</param>
/// <param name="VentriclesAndAtrophy">Of all cases: both agree.</param>
/// <param name="Midline">Of all cases: the midline agrees.</param>
/// <param name="ShiftFound">Of the cases with a shifted midline: stated with the right direction.</param>
/// <param name="FalseLesions">Of the cases without a lesion: the generated text states one.</param>
/// <param name="Distinct">Different generated texts per case.</param>
public sealed record FindingScore(
    int Cases, int LesionCases, double MainLesion, double MainKind, double MainRegion, double MainSide, double AnyLesion,
    double Ventricles, double Atrophy, double VentriclesAndAtrophy, double Midline, double ShiftFound, double FalseLesions, double Distinct)
{
    /// <summary>Scores pairs of texts.</summary>
    /// <param name="pairs">The true findings and the generated ones.</param>
    public static FindingScore Of(IReadOnlyList<(string Reference, string Generated)> pairs)
    {
        var facts = pairs.Select(p => (Truth: FindingFacts.Parse(p.Reference), Said: FindingFacts.Parse(p.Generated))).ToList();
        var lesions = facts.Where(f => f.Truth.Main is not null).ToList();
        var shifted = facts.Where(f => f.Truth.Midline != MidlineShift.None).ToList();
        var normal = facts.Where(f => f.Truth.Main is null).ToList();
        int stated = lesions.Sum(f => f.Truth.Lesions.Count);
        return new FindingScore(
            pairs.Count, lesions.Count,
            Share(lesions, f => f.Truth.Main == f.Said.Main),
            Share(lesions, f => f.Truth.Main?.Kind == f.Said.Main?.Kind),
            Share(lesions, f => f.Truth.Main?.Region == f.Said.Main?.Region),
            Share(lesions, f => f.Truth.Main?.Side == f.Said.Main?.Side),
            (double)lesions.Sum(f => f.Truth.Lesions.Count(f.Said.Lesions.Contains)) / stated,
            Share(facts, f => f.Truth.VentriclesEnlarged == f.Said.VentriclesEnlarged),
            Share(facts, f => f.Truth.Atrophy == f.Said.Atrophy),
            Share(facts, f => f.Truth.VentriclesEnlarged == f.Said.VentriclesEnlarged && f.Truth.Atrophy == f.Said.Atrophy),
            Share(facts, f => f.Truth.Midline == f.Said.Midline),
            Share(shifted, f => f.Truth.Midline == f.Said.Midline),
            Share(normal, f => f.Said.Main is not null),
            (double)pairs.Select(p => p.Generated).Distinct().Count() / pairs.Count);
    }

    /// <summary>
    /// The report that repeats best: a text whose facts are the most frequent among <paramref name="reports"/> (the first such text). Printing it for
    /// every study is the baseline a model must beat.
    /// </summary>
    /// <exception cref="ArgumentException">There are no reports.</exception>
    public static string Commonest(IReadOnlyList<string> reports)
    {
        if (reports.Count == 0) throw new ArgumentException("no reports", nameof(reports));
        return reports.GroupBy(FindingFacts.Parse).MaxBy(g => g.Count())!.First();
    }

    /// <summary>A plain-text table of this score beside that of the baseline.</summary>
    /// <param name="baseline">Score of <see cref="Commonest"/> on the same references.</param>
    public string Table(FindingScore baseline)
    {
        var table = new StringBuilder();
        table.AppendLine(CultureInfo.InvariantCulture, $"{Cases} studies, {LesionCases} with a lesion");
        table.AppendLine(CultureInfo.InvariantCulture, $"{"",-44}{"model",8}{"baseline",10}");
        void Row(string name, Func<FindingScore, double> value)
        {
            static string Percent(double share) => double.IsNaN(share) ? "-" : (100 * share).ToString("F1", CultureInfo.InvariantCulture) + " %";
            table.AppendLine(CultureInfo.InvariantCulture, $"{name,-44}{Percent(value(this)),8}{Percent(value(baseline)),10}");
        }

        Row("main lesion: side + region + kind right", s => s.MainLesion);
        Row("  side right", s => s.MainSide);
        Row("  region right", s => s.MainRegion);
        Row("  kind right", s => s.MainKind);
        Row("any lesion found", s => s.AnyLesion);
        Row("ventricle and atrophy words right", s => s.VentriclesAndAtrophy);
        Row("  ventricles right", s => s.Ventricles);
        Row("  atrophy right", s => s.Atrophy);
        Row("midline right", s => s.Midline);
        Row("  shifts found", s => s.ShiftFound);
        Row("false lesion on a study without one", s => s.FalseLesions);
        Row("distinct reports", s => s.Distinct);
        return table.ToString();
    }

    private static double Share<T>(List<T> items, Func<T, bool> right) => (double)items.Count(right) / items.Count;
}
