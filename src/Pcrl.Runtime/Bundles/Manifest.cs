using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using Pcrl.Runtime.Vision;

namespace Pcrl.Runtime.Bundles;

/// <summary>
/// <c>pcrl.json</c>: everything about a bundle that is not a weight. The single source of the dimensions:
/// the shapes in the two GGUF files are checked against it.
/// </summary>
public sealed record Manifest
{
    /// <summary>The version this program writes and the only one it reads.</summary>
    public const int CurrentFormat = 1;

    /// <summary>Format version of the bundle.</summary>
    public required int Format { get; init; }

    /// <summary>Name of the model, e.g. <c>mini</c>; appears in every report.</summary>
    public required string Model { get; init; }

    /// <summary>One sentence on what the model is and what it is not.</summary>
    public required string Description { get; init; }

    /// <summary>Dimensions and normalisation of the visual path.</summary>
    public required VisualConfig Visual { get; init; }

    /// <summary>Text around the visual tokens.</summary>
    public required PromptTemplate Prompt { get; init; }

    /// <summary>Sampling unless the user says otherwise (paper: temperature 0.6, top-p 0.9).</summary>
    public required SamplingDefaults Sampling { get; init; }

    /// <summary>Positions of the LLM's context: prompt, visual tokens and report together.</summary>
    public required int ContextLength { get; init; }

    /// <summary>Size and SHA-256 of each weight file, by file name.</summary>
    public required IReadOnlyDictionary<string, FileDigest> Files { get; init; }

    /// <summary>Where the weights come from: data, configuration, commit, and the converter's parity figures. Not interpreted.</summary>
    public JsonObject Provenance { get; init; } = [];
}

/// <summary>
/// The text around the visual tokens (§3.1 of the paper): head ‖ visual tokens ‖ tail, and then the model writes the findings. Special tokens
/// are spelled out; a marker that the vocabulary does not know as one is read as plain text.
/// </summary>
/// <param name="Head">Text before the visual tokens, with the token that begins every text.</param>
/// <param name="Tail">Text behind them: the instruction.</param>
public sealed record PromptTemplate(string Head, string Tail)
{
    /// <summary>The authors' prompt for report generation.</summary>
    public static PromptTemplate ReportGeneration { get; } = new("<|begin_of_text|>[Img]", "[/Img][MRG]详细地用中文描述给定的多张脑CT图片并生成一份中文的脑CT报告。");
}

/// <summary>Sampling parameters a bundle was made for.</summary>
/// <param name="Temperature">Divisor of the logits; 0 is greedy.</param>
/// <param name="TopP">A token stays if the mass of those ahead of it is at most this; 0 (the likeliest token alone) to 1.</param>
/// <param name="MaxTokens">Longest report in tokens.</param>
public sealed record SamplingDefaults(float Temperature, float TopP, int MaxTokens);

/// <summary>What a file must be, byte for byte.</summary>
/// <param name="Bytes">Length.</param>
/// <param name="Sha256">Lower-case hexadecimal SHA-256.</param>
public sealed record FileDigest(long Bytes, string Sha256);

/// <summary>Source-generated JSON: no reflection at start-up, unknown keys refused.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.SnakeCaseLower,
    UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow, RespectNullableAnnotations = true, RespectRequiredConstructorParameters = true)]
[JsonSerializable(typeof(Manifest))]
internal sealed partial class ManifestJson : JsonSerializerContext
{
    /// <summary>For writing: Chinese stays readable in the file.</summary>
    public static ManifestJson ForWriting() => new(new JsonSerializerOptions
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        WriteIndented = true,
        Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    });
}
