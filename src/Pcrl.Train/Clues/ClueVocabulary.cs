using System.Text.Json;
using System.Text.Json.Serialization;
using Pcrl.Runtime;
using Pcrl.Runtime.Studies;
using Pcrl.Train.Data;

namespace Pcrl.Train.Clues;

/// <summary>One of the eight anatomical layers, caudal to cranial.</summary>
/// <param name="Name">Chinese name of the level.</param>
/// <param name="Entities">Entities that a radiologist looks for at this level.</param>
public sealed record ClueLayer(string Name, IReadOnlyList<string> Entities);

/// <summary>
/// The lists behind the clues (docs/clues.md): layers and their entities, English names, words that end a clause's interest, typing errors.
/// They are data: <see cref="Default"/> is the embedded <c>clues.json</c>, a user's own file has the same form.
/// </summary>
public sealed record ClueVocabulary
{
    private static readonly JsonSerializerOptions Form = JsonFile.Form(JsonNamingPolicy.CamelCase);

    /// <summary>The embedded lists.</summary>
    public static ClueVocabulary Default { get; } = LoadEmbedded();

    /// <summary>Layers, caudal to cranial.</summary>
    public required IReadOnlyList<ClueLayer> Layers { get; init; }

    /// <summary>English name of every entity, for the image-text scorer.</summary>
    public required IReadOnlyDictionary<string, string> English { get; init; }

    /// <summary>The sentence that a masked slice is scored against; <c>{0}</c> is the English name.</summary>
    public required string ImagePrompt { get; init; }

    /// <summary>Words for organs outside the head: a clause with one of them is dropped.</summary>
    public required IReadOnlyList<string> OutsideHead { get; init; }

    /// <summary>Pairs (typed, meant), applied in order.</summary>
    public required IReadOnlyList<IReadOnlyList<string>> Corrections { get; init; }

    /// <summary>Openings such as <c>头颅CT平扫：</c> that say nothing about the picture; longer ones first.</summary>
    public required IReadOnlyList<string> Headings { get; init; }

    /// <summary>Simplified form of the traditional characters that occur in findings.</summary>
    public required IReadOnlyDictionary<string, string> Simplified { get; init; }

    /// <summary>All entities once, in the order in which the layers name them first; an entity's index here is its number.</summary>
    [JsonIgnore]
    public IReadOnlyList<string> Entities => field ??= [.. Layers.SelectMany(l => l.Entities).Distinct()];

    /// <summary>Numbers of the longer entities that contain an entity's name.</summary>
    private int[][] Longer => field ??= [.. Entities.Select(e => Enumerable.Range(0, Entities.Count)
        .Where(other => Entities[other].Length > e.Length && Entities[other].Contains(e, StringComparison.Ordinal)).ToArray())];

    /// <summary>
    /// Numbers of the entities that a clause names, ascending. One that is part of a longer one in the same clause doesn't count: 双侧侧脑室扩大
    /// names 侧脑室, not 脑室.
    /// </summary>
    public IReadOnlyList<int> InClause(string clause)
    {
        int[] named = [.. Enumerable.Range(0, Entities.Count).Where(e => clause.Contains(Entities[e], StringComparison.Ordinal))];
        return [.. named.Where(e => !Longer[e].Any(named.Contains))];
    }

    /// <summary>Numbers of the entities that any clause of a text names.</summary>
    public HashSet<int> InText(string text) => [.. FindingsText.Split(text).SelectMany(part => InClause(part.Clause))];

    /// <summary>Layers (0 = caudal) at which an entity is looked for.</summary>
    public IEnumerable<int> LayersOf(string entity) => Enumerable.Range(0, Layers.Count).Where(l => Layers[l].Entities.Contains(entity));

    /// <summary>The sentence for one entity, e.g. "A CT image contain Thalamus".</summary>
    public string PromptFor(string entity) => string.Format(null, ImagePrompt, English[entity]);

    /// <summary>Reads a vocabulary of the user's own.</summary>
    /// <exception cref="InputException">Unreadable, not this form, or an entity without an English name.</exception>
    public static ClueVocabulary Load(string path) => Check(path, JsonFile.Read<ClueVocabulary>(path, "a usable clue vocabulary", Form));

    private static ClueVocabulary LoadEmbedded()
    {
        using var stream = typeof(ClueVocabulary).Assembly.GetManifestResourceStream("Pcrl.Train.clues.json")!;
        return Check("clues.json", JsonSerializer.Deserialize<ClueVocabulary>(stream, Form)!);
    }

    private static ClueVocabulary Check(string path, ClueVocabulary read)
    {
        if (read.Layers.Count != SliceSelector.Layers)
            throw new InputException(path, $"names {read.Layers.Count} layers, {SliceSelector.Layers} are needed");
        if (read.Entities.Count == 0)
            throw new InputException(path, "names no entities");
        if (read.Entities.FirstOrDefault(e => e.Length == 0 || !read.English.TryGetValue(e, out string? name) || string.IsNullOrWhiteSpace(name)) is { } nameless)
            throw new InputException(path, $"has no English name for the entity '{nameless}'");
        if (read.Corrections.Any(pair => pair.Count != 2 || pair[0].Length == 0))
            throw new InputException(path, "has a correction that is not a pair");
        if (read.Simplified.Any(pair => pair.Key.Length != 1 || pair.Value is not { Length: 1 }))
            throw new InputException(path, "maps a traditional form that is not one character");
        if (read.OutsideHead.Contains("") || read.Headings.Contains(""))
            throw new InputException(path, "has an empty word among its headings or the words for organs outside the head");
        if (!TakesName(read.ImagePrompt))
            throw new InputException(path, "has an image prompt that does not take a name at {0}");
        return read;
    }

    private static bool TakesName(string prompt)
    {
        const string name = "Thalamus";
        try
        {
            return string.Format(null, prompt, name) is var sentence && sentence.Contains(name, StringComparison.Ordinal) && !prompt.Contains(name, StringComparison.Ordinal);
        }
        catch (FormatException)
        {
            return false;
        }
    }
}
