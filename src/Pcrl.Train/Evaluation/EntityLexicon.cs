using System.Buffers;
using System.Text.Json;

namespace Pcrl.Train.Evaluation;

/// <summary>A part of the head that reports name.</summary>
/// <param name="Name">The Chinese keyword.</param>
/// <param name="English">Its English name.</param>
public sealed record Entity(string Name, string English);

/// <summary>
/// The entity keywords and where a text names them. A clause ends at 。；， (or their ASCII forms, or a line end); an entity whose name is part of
/// a longer entity's name that the same clause holds does not count there: 双侧侧脑室扩大 names 侧脑室, not 脑室.
/// </summary>
public sealed class EntityLexicon
{
    private static readonly SearchValues<char> ClauseEnds = SearchValues.Create("。；，;,\r\n");

    private readonly int[][] _containing; // entity → longer entities whose names contain its name

    private EntityLexicon(IReadOnlyList<Entity> entities)
    {
        Entities = entities;
        _containing = [.. entities.Select(e => Enumerable.Range(0, entities.Count)
            .Where(other => entities[other].Name.Length > e.Name.Length && entities[other].Name.Contains(e.Name)).ToArray())];
    }

    /// <summary>The list that ships with the program.</summary>
    public static EntityLexicon Default { get; } = Load();

    /// <summary>All entities; an entity's index here is its number everywhere.</summary>
    public IReadOnlyList<Entity> Entities { get; }

    /// <summary>The clauses of a text in order, none empty.</summary>
    public static IEnumerable<string> Clauses(string text)
    {
        int start = 0;
        while (start < text.Length)
        {
            int length = text.AsSpan(start).IndexOfAny(ClauseEnds);
            string clause = (length < 0 ? text[start..] : text.Substring(start, length)).Trim();
            if (clause.Length > 0)
                yield return clause;
            start = length < 0 ? text.Length : start + length + 1;
        }
    }

    /// <summary>Numbers of the entities that a clause names, ascending.</summary>
    public IReadOnlyList<int> InClause(string clause)
    {
        int[] named = [.. Enumerable.Range(0, Entities.Count).Where(e => clause.Contains(Entities[e].Name, StringComparison.Ordinal))];
        return [.. named.Where(e => !_containing[e].Any(named.Contains))];
    }

    /// <summary>Numbers of the entities that a text names.</summary>
    public HashSet<int> InText(string text) => [.. Clauses(text).SelectMany(InClause)];

    private static EntityLexicon Load()
    {
        using var stream = typeof(EntityLexicon).Assembly.GetManifestResourceStream("evaluation/entities.json")!;
        return new EntityLexicon(JsonSerializer.Deserialize<Entity[]>(stream, JsonSerializerOptions.Web)!);
    }
}
