using System.Text.Json;
using Pcrl.Train.Clues;

namespace Pcrl.Train.Evaluation;

/// <summary>One abnormal finding that a text states: where, on which side, of which kind. Both sides (双侧) make two findings.</summary>
/// <param name="Entity">Number in <see cref="ClueVocabulary.Entities"/>.</param>
/// <param name="Side">The side; <see cref="Side.Midline"/> where none is stated.</param>
/// <param name="Kind">Number in <see cref="FindingParser.Kinds"/>.</param>
public readonly record struct Finding(int Entity, Side Side, int Kind);

/// <summary>
/// Reads findings from a report, clause by clause and from left to right: a side holds for the entities after it, a kind of lesion for the entities named
/// since the last kind (or, when it comes first, for those that follow); after a negation (未见, 无 …) a clause states no kind. Words are
/// data, in <c>Lexicon/findings.json</c>; docs/evaluation.md has examples.
/// </summary>
public sealed class FindingParser
{
    private readonly ClueVocabulary _vocabulary;
    private readonly (string Word, Side[] Sides)[] _sides;
    private readonly string[] _negations;
    private readonly (string Word, int Kind)[] _kindWords;
    private readonly bool[] _directional;

    private sealed record KindData(string Name, string[] Words, bool Directional = false);

    private sealed record FindingData(Dictionary<string, string[]> Sides, string[] Negations, KindData[] Kinds);

    private FindingParser(ClueVocabulary vocabulary, FindingData data)
    {
        _vocabulary = vocabulary;
        _sides = [.. data.Sides.SelectMany(side => side.Value.Select(word => (word, SidesOf(side.Key)))).OrderByDescending(s => s.word.Length)];
        _negations = data.Negations;
        _kindWords = [.. data.Kinds.SelectMany((kind, number) => kind.Words.Select(word => (word, number))).OrderByDescending(k => k.word.Length)];
        _directional = [.. data.Kinds.Select(kind => kind.Directional)];
        Kinds = [.. data.Kinds.Select(kind => kind.Name)];
    }

    /// <summary>The parser over the lists that ship with the program.</summary>
    public static FindingParser Default { get; } = Load();

    /// <summary>Names of the kinds of lesion; a kind's index here is its number.</summary>
    public IReadOnlyList<string> Kinds { get; }

    /// <summary>What a finding says, in words for people.</summary>
    public string Describe(Finding finding)
    {
        string side = finding.Side == Side.Midline ? "" : finding.Side.ToString().ToLowerInvariant() + " ";
        return $"{side}{_vocabulary.Entities[finding.Entity]}: {Kinds[finding.Kind]}";
    }

    /// <summary>The findings that a text states as present.</summary>
    public HashSet<Finding> Parse(string text)
    {
        var findings = new HashSet<Finding>();
        foreach (var (clause, _) in FindingsText.Split(text))
            ParseClause(clause, findings);
        return findings;
    }

    private void ParseClause(string clause, HashSet<Finding> findings)
    {
        var named = _vocabulary.InClause(clause);
        if (named.Count == 0)
            return;
        Side[] side = [Side.Midline];
        Side[]? sideAfterGroup = null; // a side word that follows the entities, as in 中线结构向左移位
        var group = new List<(int Entity, Side[] Sides)>();
        var waiting = new List<int>(); // kinds that came before any entity
        bool groupHasKind = false;
        int at = 0;
        while (at < clause.Length)
        {
            var rest = clause.AsSpan(at);
            if (StartsWithAny(rest, _negations))
                break;
            int step = 1;
            foreach (var (word, sides) in _sides)
            {
                if (!rest.StartsWith(word))
                    continue;
                side = sides;
                sideAfterGroup = group.Count > 0 ? sides : null;
                break; // step 1: 左移 is a kind as well, and 侧 of 两侧脑室 begins an entity
            }
            int entity = Longest(named, rest);
            if (entity >= 0)
            {
                if (groupHasKind)
                    group.Clear();
                groupHasKind = false;
                sideAfterGroup = null;
                group.Add((entity, side));
                step = _vocabulary.Entities[entity].Length;
            }
            else if (KindAt(rest, out int kind, out int length))
            {
                if (group.Count == 0)
                    waiting.Add(kind);
                else
                    State(group, [kind], sideAfterGroup, findings);
                groupHasKind = group.Count > 0;
                step = length;
            }
            at += step;
        }
        if (!groupHasKind)
            State(group, waiting, sideAfterGroup, findings);
    }

    private void State(List<(int Entity, Side[] Sides)> group, List<int> kinds, Side[]? sideAfterGroup, HashSet<Finding> findings)
    {
        foreach (int kind in kinds)
        {
            foreach (var (entity, sides) in group)
            {
                foreach (var side in _directional[kind] && sideAfterGroup is not null ? sideAfterGroup : sides)
                    findings.Add(new Finding(entity, side, kind));
            }
        }
    }

    private int Longest(IReadOnlyList<int> named, ReadOnlySpan<char> rest)
    {
        int best = -1;
        foreach (int entity in named)
        {
            if (rest.StartsWith(_vocabulary.Entities[entity]) && (best < 0 || _vocabulary.Entities[entity].Length > _vocabulary.Entities[best].Length))
                best = entity;
        }
        return best;
    }

    private bool KindAt(ReadOnlySpan<char> rest, out int kind, out int length)
    {
        foreach (var (word, number) in _kindWords)
        {
            if (rest.StartsWith(word))
            {
                (kind, length) = (number, word.Length);
                return true;
            }
        }
        (kind, length) = (-1, 0);
        return false;
    }

    private static bool StartsWithAny(ReadOnlySpan<char> rest, string[] words)
    {
        foreach (string word in words)
        {
            if (rest.StartsWith(word))
                return true;
        }
        return false;
    }

    private static Side[] SidesOf(string key) => key switch
    {
        "left" => [Side.Left],
        "right" => [Side.Right],
        "both" => [Side.Left, Side.Right],
        _ => [Side.Midline],
    };

    private static FindingParser Load()
    {
        using var stream = typeof(FindingParser).Assembly.GetManifestResourceStream("evaluation/findings.json")!;
        return new FindingParser(ClueVocabulary.Default, JsonSerializer.Deserialize<FindingData>(stream, JsonSerializerOptions.Web)!);
    }
}
