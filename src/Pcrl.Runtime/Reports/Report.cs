using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace Pcrl.Runtime.Reports;

/// <summary>A draft report with everything needed to see how it came about; serialises to the JSON of <c>report --json</c>.</summary>
public sealed record Report
{
    /// <summary>Stands beside every report, in whatever form it leaves the program.</summary>
    public const string DraftNotice = "AI 生成的草稿，未经医师审核，不得用于诊断。 Unverified AI draft, not for diagnosis.";

    /// <summary>Path of the study where several were asked for, else null.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Study { get; init; }

    /// <summary>The Chinese findings.</summary>
    [JsonPropertyName("report")]
    public required string Text { get; init; }

    /// <summary>Always true: no text of this program is a finished report.</summary>
    public bool Draft => true;

    /// <summary><see cref="DraftNotice"/>.</summary>
    public string Notice => DraftNotice;

    /// <summary>Name of the bundle's model.</summary>
    public required string Model { get; init; }

    /// <summary>The slices that the model saw, caudal to cranial.</summary>
    public required IReadOnlyList<ReportSlice> Slices { get; init; }

    /// <summary>Files of the study that were not used, and why.</summary>
    public required IReadOnlyList<Studies.SetAside> SetAside { get; init; }

    /// <summary>What the reader put right without being told to.</summary>
    public required IReadOnlyList<string> Notes { get; init; }

    /// <summary>Rows of visual tokens that entered the LLM.</summary>
    public required int VisualTokens { get; init; }

    /// <summary>Text tokens of the prompt.</summary>
    public required int PromptTokens { get; init; }

    /// <summary>Tokens of the report, without the end token.</summary>
    public required int GeneratedTokens { get; init; }

    /// <summary>Batches in which the report was read and written; fewer than tokens where drafts were right.</summary>
    public required int Steps { get; init; }

    /// <summary>Why the text ended: <c>end_of_text</c>, <c>token_limit</c> or <c>context_full</c>.</summary>
    public required string Stop { get; init; }

    /// <summary>Seed of the draw; the same seed gives the same text on the same machine and settings.</summary>
    public required ulong Seed { get; init; }

    /// <summary>Divisor of the logits; 0 is greedy.</summary>
    public required float Temperature { get; init; }

    /// <summary>Mass of the nucleus.</summary>
    public required float TopP { get; init; }

    /// <summary>What vision kernels and language model ran on and why.</summary>
    public required string Device { get; init; }

    /// <summary>Where the time went.</summary>
    public required ReportTimings TimingsMs { get; init; }

    /// <summary>The JSON that <c>report --json</c> prints: snake_case, Chinese unescaped.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, ReportJson.ForWriting().Report);
}

/// <summary>One of the 24 slices.</summary>
/// <param name="Index">0 to 23; layer · 3 + position in the layer.</param>
/// <param name="Source">File or volume slice it came from.</param>
/// <param name="Layer">Anatomical layer, 0 (skull base) to 7 (vertex).</param>
/// <param name="Level">Name of the layer.</param>
/// <param name="Reason">Why this slice stands here.</param>
public sealed record ReportSlice(int Index, string Source, int Layer, string Level, string Reason);

/// <summary>Milliseconds of each stage. Loading the bundle and reading the study overlap, so that the stages can sum to more than the total.</summary>
/// <param name="Load">Verifying and loading the bundle.</param>
/// <param name="Read">Reading the study, choosing and preparing the slices.</param>
/// <param name="Encode">Slices to visual tokens.</param>
/// <param name="Prefill">The whole prompt to the first logits.</param>
/// <param name="Decode">All tokens after the first.</param>
/// <param name="Total">From opening the bundle to the last character; of one of many studies, which share the bundle and wait for each other, from encoding on.</param>
public sealed record ReportTimings(double Load, double Read, double Encode, double Prefill, double Decode, double Total);

[JsonSerializable(typeof(Report))]
[JsonSerializable(typeof(string[]))]
internal sealed partial class ReportJson : JsonSerializerContext
{
    public static ReportJson ForWriting() => new(new JsonSerializerOptions
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    });
}
