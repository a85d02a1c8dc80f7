using System.Text;
using System.Text.Json;
using System.Text.Json.Serialization;
using Pcrl.Runtime;

namespace Pcrl.Train.Data;

/// <summary>Reads what users bring as JSON into records.</summary>
internal static class JsonFile
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
            var bytes = File.ReadAllBytes(path).AsMemory();
            using var document = JsonDocument.Parse(bytes.Span.StartsWith(Encoding.UTF8.Preamble) ? bytes[Encoding.UTF8.Preamble.Length..] : bytes);
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
            throw new InputException(path, $"is not {kind} ({e.Message.Split('\n')[0]})", e);
        }
    }

    /// <summary>Whether any list holds null: the serializer looks at the types of properties only, not of elements.</summary>
    private static bool HasHole(JsonElement element) => element.ValueKind switch
    {
        JsonValueKind.Array => element.EnumerateArray().Any(e => e.ValueKind == JsonValueKind.Null || HasHole(e)),
        JsonValueKind.Object => element.EnumerateObject().Any(p => HasHole(p.Value)),
        _ => false,
    };
}
