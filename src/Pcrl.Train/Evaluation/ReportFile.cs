using System.Globalization;
using System.Text;
using System.Text.Json;
using Pcrl.Runtime;

namespace Pcrl.Train.Evaluation;

/// <summary>One record of a file of reports.</summary>
/// <param name="Id">Name of the study.</param>
/// <param name="Texts">Its report, or several equally valid ones.</param>
public sealed record ReportRecord(string Id, IReadOnlyList<string> Texts);

/// <summary>
/// Reads reports from JSON (an array of records, or one object from id to text), JSON Lines, CSV or TSV, record by record. A record has an id
/// (<c>id</c>, <c>image_id</c> or <c>study</c>) and a text (<c>report</c>, <c>prediction</c>, <c>hypothesis</c>, <c>reference</c>, <c>references</c>,
/// <c>findings</c>, <c>caption</c> or <c>text</c>; the first that is there counts); in JSON the text may be a list of texts.
/// </summary>
public static class ReportFile
{
    /// <summary>Longest text of a report, in UTF-16 units: far beyond any findings text, and short enough for the metrics to end.</summary>
    public const int LongestText = 4000;

    private const long LongestFile = 512L << 20;
    private const int LongestRecord = 16 << 20;
    private const int MostRecords = 200_000;

    private static readonly string[] IdFields = ["id", "image_id", "study"];
    private static readonly string[] TextFields = ["report", "prediction", "hypothesis", "reference", "references", "findings", "caption", "text"];

    /// <summary>Reads all records in order.</summary>
    /// <exception cref="InputException">The file is missing, broken, too large, not UTF-8, or a record lacks id or text.</exception>
    public static List<ReportRecord> Read(string path, CancellationToken cancellation = default)
    {
        try
        {
            if (path.Length == 0)
                throw new InputException("reports", "the file name is empty");
            if (Directory.Exists(path))
                throw new InputException(path, "is a folder, expected a file of reports");
            using var stream = new CheckedUtf8Stream(path, new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 16), LongestFile);
            var records = new List<ReportRecord>();
            void Add(ReportRecord record)
            {
                cancellation.ThrowIfCancellationRequested();
                if (records.Count == MostRecords)
                    throw new InputException(path, $"holds more than {MostRecords} reports");
                if (record.Texts.Any(text => text.Length > LongestText))
                    throw new InputException(path, $"record {records.Count + 1} has a text of more than {LongestText} characters");
                records.Add(record);
            }
            switch (Path.GetExtension(path).ToLowerInvariant())
            {
                case ".csv": ReadTable(path, stream, ',', Add); break;
                case ".tsv": ReadTable(path, stream, '\t', Add); break;
                default: ReadJson(path, stream, Add); break;
            }
            return records.Count > 0 ? records : throw new InputException(path, "holds no reports");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw InputException.Unreadable(path, e);
        }
    }

    private static void ReadJson(string path, Stream stream, Action<ReportRecord> add)
    {
        var state = new JsonReaderState(new JsonReaderOptions { AllowMultipleValues = true, MaxDepth = 16 });
        byte[] buffer = new byte[1 << 16];
        int filled = stream.ReadAtLeast(buffer, 3, throwOnEndOfStream: false);
        if (buffer.AsSpan(0, filled).StartsWith(Encoding.UTF8.Preamble))
            filled = Drop(buffer, filled, Encoding.UTF8.Preamble.Length);
        bool last = false;
        int number = 0;
        while (true)
        {
            int consumed;
            try
            {
                consumed = ReadBuffered(buffer.AsSpan(0, filled), last, ref state, value => AddRecord(path, ++number, value, add));
            }
            catch (JsonException e)
            {
                throw new InputException(path, $"line {(e.LineNumber ?? 0) + 1} is not JSON", e);
            }
            filled = Drop(buffer, filled, consumed);
            if (last)
                return;
            if (filled == buffer.Length)
            {
                if (buffer.Length >= LongestRecord)
                    throw new InputException(path, $"record {number + 1} is larger than {LongestRecord >> 20} MB");
                Array.Resize(ref buffer, buffer.Length * 2);
            }
            int count = stream.Read(buffer.AsSpan(filled));
            filled += count;
            last = count == 0;
        }
    }

    /// <summary>Passes on every complete value, at the top level or in a top-level array; returns how many bytes it needs no more.</summary>
    private static int ReadBuffered(ReadOnlySpan<byte> bytes, bool last, ref JsonReaderState state, Action<JsonElement> add)
    {
        var reader = new Utf8JsonReader(bytes, last, state);
        while (true)
        {
            var before = reader;
            if (!reader.Read())
                break;
            if (reader.TokenType is JsonTokenType.EndArray || (reader.TokenType is JsonTokenType.StartArray && reader.CurrentDepth == 0))
                continue;
            if (!JsonDocument.TryParseValue(ref reader, out var document))
            {
                reader = before; // the rest of the value is not in the buffer yet
                break;
            }
            using (document)
                add(document.RootElement);
        }
        state = reader.CurrentState;
        return (int)reader.BytesConsumed;
    }

    private static int Drop(byte[] buffer, int filled, int count)
    {
        buffer.AsSpan(count, filled - count).CopyTo(buffer);
        return filled - count;
    }

    private static void AddRecord(string path, int number, JsonElement value, Action<ReportRecord> add)
    {
        if (value.ValueKind != JsonValueKind.Object)
            throw new InputException(path, $"record {number} is not a JSON object");
        try
        {
            var id = IdFields.Select(field => Field(value, field)).FirstOrDefault(f => f is not null);
            if (id is { } known)
            {
                var text = TextFields.Select(field => Field(value, field)).FirstOrDefault(f => f is not null)
                    ?? throw new InputException(path, $"record {number} has no text: expected one of {string.Join(", ", TextFields)}");
                add(new ReportRecord(Id(path, number, known), Texts(path, number, text)));
            }
            else if (value.EnumerateObject().All(p => p.Value.ValueKind is JsonValueKind.String or JsonValueKind.Array))
            {
                foreach (var entry in value.EnumerateObject())
                    add(new ReportRecord(entry.Name, Texts(path, number, entry.Value)));
            }
            else
            {
                throw new InputException(path, $"record {number} has no id: expected one of {string.Join(", ", IdFields)}");
            }
        }
        catch (InvalidOperationException e)
        {
            throw new InputException(path, $"record {number} holds half a surrogate pair", e);
        }
    }

    private static JsonElement? Field(JsonElement record, string name) =>
        record.TryGetProperty(name, out var value) && value.ValueKind != JsonValueKind.Null ? value : null;

    private static string Id(string path, int number, JsonElement id) => id.ValueKind switch
    {
        JsonValueKind.String when id.GetString() is { Length: > 0 } text => text,
        JsonValueKind.Number => id.GetRawText(),
        _ => throw new InputException(path, $"record {number} has an id that is neither text nor a number"),
    };

    private static string[] Texts(string path, int number, JsonElement text)
    {
        if (text.ValueKind == JsonValueKind.String)
            return [text.GetString()!];
        if (text.ValueKind == JsonValueKind.Array && text.GetArrayLength() > 0 && text.EnumerateArray().All(t => t.ValueKind == JsonValueKind.String))
            return [.. text.EnumerateArray().Select(t => t.GetString()!)];
        throw new InputException(path, $"record {number} has a text that is neither text nor a list of texts");
    }

    private static void ReadTable(string path, Stream stream, char separator, Action<ReportRecord> add)
    {
        using var reader = new StreamReader(stream, Encoding.UTF8);
        var rows = new SeparatedValues(path, reader, separator, LongestRecord);
        string[] header = [.. (rows.Next() ?? []).Select(name => name.Trim().ToLowerInvariant())];
        int id = IdFields.Select(field => Array.IndexOf(header, field)).FirstOrDefault(at => at >= 0, -1);
        int text = TextFields.Select(field => Array.IndexOf(header, field)).FirstOrDefault(at => at >= 0, -1);
        if (id < 0 || text < 0)
            throw new InputException(path, $"line 1 must name a column of {string.Join(", ", IdFields)} and one of {string.Join(", ", TextFields)}");
        while (rows.Next() is { } row)
        {
            if (row is [""])
                continue;
            if (row.Count != header.Length || row[id].Length == 0)
                throw new InputException(path, string.Create(CultureInfo.InvariantCulture, $"the record that ends on line {rows.Line} has {row.Count} fields, expected {header.Length} with an id"));
            add(new ReportRecord(row[id], [row[text]]));
        }
    }
}
