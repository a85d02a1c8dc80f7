using System.Text.Json;
using Pcrl.Runtime;

namespace Pcrl.Convert;

/// <summary>Reads the settings files of checkpoints; every complaint names the file and the key.</summary>
internal static class Json
{
    /// <exception cref="InputException">Unreadable, or not a JSON object.</exception>
    public static JsonElement ReadObject(string path)
    {
        try
        {
            using var document = JsonDocument.Parse(File.ReadAllBytes(path));
            return document.RootElement.ValueKind == JsonValueKind.Object
                ? document.RootElement.Clone() : throw new InputException(path, "is not a JSON object");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw InputException.Unreadable(path, e);
        }
        catch (JsonException e)
        {
            throw new InputException(path, "is not JSON", e);
        }
    }

    /// <summary>Null where the key is missing or null.</summary>
    public static string? Text(string path, JsonElement element, string key) => Find(element, key) switch
    {
        null => null,
        { ValueKind: JsonValueKind.String } value => value.GetString(),
        _ => throw new InputException(path, $"{key} is not a text"),
    };

    /// <summary>False where the key is missing or null.</summary>
    public static bool Flag(string path, JsonElement element, string key) => Find(element, key) switch
    {
        null or { ValueKind: JsonValueKind.False } => false,
        { ValueKind: JsonValueKind.True } => true,
        _ => throw new InputException(path, $"{key} is neither true nor false"),
    };

    public static int Integer(string path, JsonElement element, string key, int? otherwise = null) => Find(element, key) switch
    {
        null => otherwise ?? throw new InputException(path, $"lacks {key}"),
        { ValueKind: JsonValueKind.Number } value when value.TryGetInt32(out int number) => number,
        _ => throw new InputException(path, $"{key} is not an integer"),
    };

    public static float Number(string path, JsonElement element, string key, float? otherwise = null) => Find(element, key) switch
    {
        null => otherwise ?? throw new InputException(path, $"lacks {key}"),
        { ValueKind: JsonValueKind.Number } value when value.TryGetSingle(out float number) && float.IsFinite(number) => number,
        _ => throw new InputException(path, $"{key} is not a number"),
    };

    /// <summary>Null where the key is missing or null, or the element is no object.</summary>
    public static JsonElement? Find(JsonElement element, string key) =>
        element.ValueKind == JsonValueKind.Object && element.TryGetProperty(key, out var value) && value.ValueKind != JsonValueKind.Null ? value : null;
}
