using System.Globalization;
using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Unicode;
using Pcrl.Runtime;

namespace Pcrl.Train.Evaluation;

/// <summary>The result for other programs.</summary>
public static class ResultFiles
{
    /// <summary>
    /// Writes everything as JSON: per system its scores (CIDEr 0 to 10, all others 0 to 1) with interval, difference and p, its entities, and every case
    /// with the scores and the findings that are missed or invented.
    /// </summary>
    /// <exception cref="InputException">The file cannot be written.</exception>
    public static void WriteJson(EvaluationResult result, string path) => AtomicFile.Write(path, stream =>
    {
        using var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.Create(UnicodeRanges.All) });
        json.WriteStartObject();
        json.WriteNumber("cases", result.Cases.Ids.Count);
        Strings(json, "without_hypothesis", result.Cases.Missing);
        Strings(json, "without_reference", result.Cases.Unknown);
        json.WriteNumber("resamples", result.Resamples);
        json.WriteNumber("seed", result.Seed);
        json.WriteNumber("references_distinct", result.ReferenceDistinct);
        if (result.ReferenceCopied is { } copied)
            json.WriteNumber("references_copied_from_train", copied);
        json.WriteStartArray("systems");
        foreach (var system in result.Systems)
            WriteSystem(json, result, system);
        json.WriteEndArray();
        json.WriteEndObject();
    });

    /// <summary>Writes the scores as CSV: one row per system and score.</summary>
    /// <exception cref="InputException">The file cannot be written.</exception>
    public static void WriteCsv(EvaluationResult result, string path) => AtomicFile.Write(path, stream =>
    {
        using var writer = new StreamWriter(stream, new UTF8Encoding(false), leaveOpen: true) { NewLine = "\r\n" };
        writer.WriteLine("system,metric,tokens,value,low,high,difference,difference_low,difference_high,p");
        foreach (var system in result.Systems)
        {
            foreach (var score in system.Scores)
                writer.WriteLine(Row(system.Name, score.Name, score.Tokens, Numbers(score)));
            writer.WriteLine(Row(system.Name, "distinct", "", [system.Distinct]));
            if (system.Copied is { } copied)
                writer.WriteLine(Row(system.Name, "copied", "", [copied]));
        }
    });

    private static double?[] Numbers(Score score) =>
    [
        score.Value, score.Interval?.Low, score.Interval?.High, score.Difference?.Value, score.Difference?.Interval.Low, score.Difference?.Interval.High, score.Difference?.P,
    ];

    private static string Row(string system, string metric, string tokens, double?[] numbers)
    {
        var cells = Enumerable.Range(0, 7).Select(k => k < numbers.Length && numbers[k] is { } number ? number.ToString("R", CultureInfo.InvariantCulture) : "");
        return string.Join(',', ((string[])[Quote(system), Quote(metric), Quote(tokens)]).Concat(cells));
    }

    private static string Quote(string cell) => cell.AsSpan().IndexOfAny(",\"\r\n") < 0 ? cell : $"\"{cell.Replace("\"", "\"\"")}\"";

    private static void WriteSystem(Utf8JsonWriter json, EvaluationResult result, SystemResult system)
    {
        json.WriteStartObject();
        json.WriteString("name", system.Name);
        json.WriteBoolean("baseline", system.IsBaseline);
        json.WriteNumber("distinct", system.Distinct);
        if (system.Copied is { } copied)
            json.WriteNumber("copied_from_train", copied);
        json.WriteStartArray("scores");
        foreach (var score in system.Scores)
            WriteScore(json, score);
        json.WriteEndArray();
        json.WriteStartArray("entities");
        foreach (var entity in system.Entities)
        {
            json.WriteStartObject();
            json.WriteString("entity", entity.Entity);
            json.WriteString("english", entity.English);
            json.WriteNumber("support", entity.Support);
            json.WriteNumber("precision", entity.Precision);
            json.WriteNumber("recall", entity.Recall);
            json.WriteNumber("f1", entity.F1);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        if (!system.IsBaseline)
            WriteCases(json, result, system);
        json.WriteEndObject();
    }

    private static void WriteScore(Utf8JsonWriter json, Score score)
    {
        json.WriteStartObject();
        json.WriteString("metric", score.Name);
        if (score.Tokens.Length > 0)
            json.WriteString("tokens", score.Tokens);
        string[] names = ["value", "low", "high", "difference", "difference_low", "difference_high", "p"];
        foreach (var (name, number) in names.Zip(Numbers(score)))
        {
            if (number is { } value)
                json.WriteNumber(name, value);
        }
        json.WriteEndObject();
    }

    private static void WriteCases(Utf8JsonWriter json, EvaluationResult result, SystemResult system)
    {
        json.WriteStartArray("per_case");
        for (int i = 0; i < result.Cases.Ids.Count; i++)
        {
            var comparison = CaseComparison.Of(system.Hypotheses[i], result.Cases.References[i]);
            json.WriteStartObject();
            json.WriteString("id", result.Cases.Ids[i]);
            json.WriteStartObject("scores");
            for (int k = 0; k < system.Scores.Count; k++)
                json.WriteNumber(system.Scores[k].Tokens.Length > 0 ? $"{system.Scores[k].Name} {system.Scores[k].Tokens}" : system.Scores[k].Name, system.PerCase[i][k]);
            json.WriteEndObject();
            Strings(json, "missed_entities", comparison.MissedEntities);
            Strings(json, "invented_entities", comparison.InventedEntities);
            Strings(json, "missed_findings", comparison.MissedFindings);
            Strings(json, "invented_findings", comparison.InventedFindings);
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }

    private static void Strings(Utf8JsonWriter json, string name, IReadOnlyList<string> values)
    {
        json.WriteStartArray(name);
        foreach (string value in values)
            json.WriteStringValue(value);
        json.WriteEndArray();
    }
}
