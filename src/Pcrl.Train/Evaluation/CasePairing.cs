using Pcrl.Runtime;

namespace Pcrl.Train.Evaluation;

/// <summary>References and the hypotheses of one or several systems, matched by id; the order is that of the references.</summary>
/// <param name="Ids">Ids of the cases that every system has a hypothesis for.</param>
/// <param name="References">References per case, at least one each.</param>
/// <param name="Hypotheses">Per system, one text per case.</param>
/// <param name="Missing">Ids that have a reference but lack a hypothesis of some system.</param>
/// <param name="Unknown">Ids that have a hypothesis but no reference.</param>
public sealed record CasePairing(
    IReadOnlyList<string> Ids, IReadOnlyList<IReadOnlyList<string>> References, IReadOnlyList<IReadOnlyList<string>> Hypotheses,
    IReadOnlyList<string> Missing, IReadOnlyList<string> Unknown)
{
    private const int ShownIds = 10, ShownCharacters = 80;

    /// <summary>
    /// Matches records by id. An id that comes twice among the references has several references, as in COCO; twice among one system's
    /// hypotheses it is an error.
    /// </summary>
    /// <param name="references">The records of the references, and the file to name in errors.</param>
    /// <param name="systems">The same for each system.</param>
    /// <exception cref="InputException">Duplicate hypotheses, several texts for one hypothesis, an empty reference, or no id in common.</exception>
    public static CasePairing Match((string File, IReadOnlyList<ReportRecord> Records) references, IReadOnlyList<(string File, IReadOnlyList<ReportRecord> Records)> systems)
    {
        var texts = new Dictionary<string, List<string>>();
        var order = new List<string>();
        foreach (var record in references.Records)
        {
            if (!texts.TryGetValue(record.Id, out var known))
            {
                texts[record.Id] = known = [];
                order.Add(record.Id);
            }
            if (record.Texts.Any(string.IsNullOrWhiteSpace))
                throw new InputException(references.File, $"the reference of id {Shown(record.Id)} is empty");
            known.AddRange(record.Texts);
        }
        var hypotheses = systems.Select(system => ByUniqueId(system.File, system.Records)).ToList();
        string[] missing = [.. order.Where(id => hypotheses.Any(h => !h.ContainsKey(id)))];
        string[] unknown = [.. hypotheses.SelectMany(h => h.Keys).Distinct().Where(id => !texts.ContainsKey(id))];
        string[] ids = [.. order.Where(id => hypotheses.All(h => h.ContainsKey(id)))];
        if (ids.Length == 0)
            throw new InputException(systems[0].File, $"shares no id with {references.File} ({Sample(missing)} against {Sample(unknown)})");
        return new CasePairing(ids, [.. ids.Select(id => texts[id])], [.. hypotheses.Select(h => ids.Select(id => h[id]).ToArray())], missing, unknown);
    }

    /// <summary>Which ids did not match, in one line; null when all did.</summary>
    public string? Mismatch => (Missing.Count, Unknown.Count) switch
    {
        (0, 0) => null,
        (_, 0) => $"{Missing.Count} without hypothesis: {Sample(Missing)}",
        (0, _) => $"{Unknown.Count} without reference: {Sample(Unknown)}",
        _ => $"{Missing.Count} without hypothesis: {Sample(Missing)}; {Unknown.Count} without reference: {Sample(Unknown)}",
    };

    private static Dictionary<string, string> ByUniqueId(string file, IReadOnlyList<ReportRecord> records)
    {
        var byId = new Dictionary<string, string>();
        foreach (var record in records)
        {
            if (record.Texts.Count != 1)
                throw new InputException(file, $"id {Shown(record.Id)} has {record.Texts.Count} hypotheses, expected one");
            if (!byId.TryAdd(record.Id, record.Texts[0]))
                throw new InputException(file, $"id {Shown(record.Id)} comes twice");
        }
        return byId;
    }

    /// <summary>An id for a terminal, whatever it holds.</summary>
    private static string Shown(string id) =>
        string.Concat(id.Take(ShownCharacters).Select(c => char.IsControl(c) ? '?' : c)) + (id.Length > ShownCharacters ? "…" : "");

    private static string Sample(IReadOnlyList<string> ids) => string.Join(", ", ids.Take(ShownIds).Select(Shown)) + (ids.Count > ShownIds ? ", …" : "");
}
