using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using System.Text.RegularExpressions;
using Pcrl.Runtime;

namespace Pcrl.Train.Data;

/// <summary>Reads what users bring as JSON into records.</summary>
internal static partial class JsonFile
{
    /// <summary>A form in which keys that the records do not know, and values that they need and do not get, are refused.</summary>
    public static JsonSerializerOptions Form(JsonNamingPolicy names) => new()
    {
        PropertyNamingPolicy = names, UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectRequiredConstructorParameters = true, RespectNullableAnnotations = true,
    };

    /// <summary>Reads a file.</summary>
    /// <param name="path">The file.</param>
    /// <param name="kind">What it shall be, for the message: "a manifest of slices".</param>
    /// <param name="form">From <see cref="Form"/>.</param>
    /// <exception cref="InputException">Unreadable, or not of this form.</exception>
    public static T Read<T>(string path, string kind, JsonSerializerOptions form)
    {
        try
        {
            using var document = JsonDocument.Parse(Bytes(path));
            if (HasHole(document.RootElement))
                throw new JsonException("a list in it holds null");
            return document.Deserialize<T>(form) ?? throw new JsonException("it holds null");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw InputException.Unreadable(path, e);
        }
        catch (JsonException e)
        {
            throw new InputException(path, $"is not {kind} ({Problem(e)})", e);
        }
    }

    /// <summary>A file without the mark that some editors put before UTF-8.</summary>
    public static ReadOnlyMemory<byte> Bytes(string path)
    {
        var bytes = File.ReadAllBytes(path).AsMemory();
        return bytes.Span.StartsWith(Encoding.UTF8.Preamble) ? bytes[Encoding.UTF8.Preamble.Length..] : bytes;
    }

    /// <summary>What is wrong, for whoever wrote the file: the serializer's own message names types of .NET and counts lines from 0.</summary>
    public static string Problem(JsonException e)
    {
        string message = e.Message.Split('\n')[0], key = e.Path is ['$', '.', .. var path] ? path : "it";
        if (WrongKind().Match(message) is { Success: true } kind)
            return $"{key} is not {Kinds.FirstOrDefault(k => kind.Groups[1].Value.StartsWith(k.Type, StringComparison.Ordinal)).Name ?? "what belongs there"}";
        if (UnknownKey().Match(message) is { Success: true } unknown)
            return $"there is no key {unknown.Groups[1].Value}";
        if (MissingKeys().Match(message) is { Success: true } missing)
            return $"{key} lacks {missing.Groups[1].Value.TrimEnd('.')}";
        if (message.Contains(" null", StringComparison.Ordinal) && message.Contains(" type '", StringComparison.Ordinal))
            return $"{key} is null";
        return e.LineNumber is { } line && message.IndexOf(" LineNumber:", StringComparison.Ordinal) is >= 0 and var end ? $"line {line + 1}: {message[..end]}" : message;
    }

    /// <summary>Beginnings of .NET's names for what JSON has.</summary>
    private static readonly (string Type, string? Name)[] Kinds =
    [
        ("System.Int32", "a whole number of at most 2147483647"), ("System.UInt64", "a whole number from 0"), ("System.Double", "a number"), ("System.Single", "a number"),
        ("System.Boolean", "true or false"), ("System.String", "a text"), ("System.Collections", "a list"),
    ];

    [GeneratedRegex(@"could not be converted to (\S+)\. ")]
    private static partial Regex WrongKind();

    [GeneratedRegex(@"property '(.+)' could not be mapped")]
    private static partial Regex UnknownKey();

    [GeneratedRegex(@"missing required properties.*?: (.+)")]
    private static partial Regex MissingKeys();

    /// <summary>Whether any list holds null: the serializer looks at the types of properties only, not of elements.</summary>
    private static bool HasHole(JsonElement element) => element.ValueKind switch
    {
        JsonValueKind.Array => element.EnumerateArray().Any(e => e.ValueKind == JsonValueKind.Null || HasHole(e)),
        JsonValueKind.Object => element.EnumerateObject().Any(p => HasHole(p.Value)),
        _ => false,
    };
}
