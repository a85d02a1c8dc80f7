using System.Text.Encodings.Web;
using System.Text.Json;
using Pcrl.Runtime;
using Pcrl.Runtime.Studies;
using Pcrl.Train.Data;

namespace Pcrl.Train.Clues;

/// <summary>A mask of a slice's gallery.</summary>
/// <param name="Runs">Run lengths in COCO's compressed text.</param>
/// <param name="PredictedIou">The segmenter's opinion of it.</param>
/// <param name="Stability">Its stability.</param>
public sealed record ClueMask(string Runs, float PredictedIou, float Stability);

/// <summary>An entity that the findings name, with its clauses and the mask retrieved for it.</summary>
/// <param name="Entity">Chinese name.</param>
/// <param name="Text">Its clauses.</param>
/// <param name="Slice">Index 0 to 23 of the slice with the mask; −1 where no slice of its layers has any.</param>
/// <param name="Mask">Index in that slice's gallery; −1 likewise.</param>
/// <param name="Score">Cosine of masked slice and prompt.</param>
public sealed record ClueEntity(string Entity, string Text, int Slice, int Mask, float Score);

/// <summary>What a slice contributes to segment and entity alignment: the clues of all entities found on it, merged.</summary>
/// <param name="Slice">Index 0 to 23.</param>
/// <param name="Mask">Union of the entities' masks.</param>
/// <param name="Text">Their clauses, each once, joined by ；</param>
public sealed record SliceClue(int Slice, RunLengthMask Mask, string Text)
{
    /// <summary>Merges the entities of each slice, caudal to cranial.</summary>
    /// <param name="entities">Slice, row-major mask [side, side] and clauses of each entity.</param>
    /// <param name="side">Side of the masks.</param>
    internal static IReadOnlyList<SliceClue> Merge(IEnumerable<(int Slice, bool[] Mask, string Text)> entities, int side)
    {
        var slices = new List<SliceClue>();
        foreach (var group in entities.GroupBy(e => e.Slice).OrderBy(g => g.Key))
        {
            var union = new bool[side * side];
            foreach (var (_, mask, _) in group)
            {
                for (int i = 0; i < union.Length; i++)
                    union[i] |= mask[i];
            }
            string text = string.Join('；', group.SelectMany(e => e.Text.Split('；')).Distinct());
            slices.Add(new SliceClue(group.Key, RunLengthMask.Encode(union, side, side), text));
        }
        return slices;
    }
}

/// <summary>Everything that training needs of a study besides its pictures; one JSON file on disk.</summary>
public sealed record StudyClues
{
    private const int Version = 1;

    private static readonly JsonSerializerOptions Form = new(JsonFile.Form(JsonNamingPolicy.SnakeCaseLower)) { Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>Version of the file's form.</summary>
    public int Format { get; init; } = Version;

    /// <summary>The study's name in its data set.</summary>
    public required string Id { get; init; }

    /// <summary>SHA-256 over everything the clues follow from: slices, findings, vocabulary, models, settings.</summary>
    public required string Content { get; init; }

    /// <summary>Side of the slices and masks in pixels.</summary>
    public required int ImageSize { get; init; }

    /// <summary>The whole cleaned findings.</summary>
    public required string Theme { get; init; }

    /// <summary>Entities that the findings name.</summary>
    public required IReadOnlyList<ClueEntity> Entities { get; init; }

    /// <summary>Galleries of the 24 slices.</summary>
    public required IReadOnlyList<IReadOnlyList<ClueMask>> Galleries { get; init; }

    /// <summary>A mask of a gallery.</summary>
    public RunLengthMask Mask(int slice, int index) => RunLengthMask.Parse(Galleries[slice][index].Runs, ImageSize, ImageSize);

    /// <summary>The slices with at least one entity (N_d of them), caudal to cranial.</summary>
    public IReadOnlyList<SliceClue> Slices() => SliceClue.Merge(
        Entities.Where(e => e.Slice >= 0).Select(e => (e.Slice, Mask(e.Slice, e.Mask).Decode(), e.Text)), ImageSize);

    /// <summary>Writes the file, whole or not at all.</summary>
    /// <exception cref="InputException">It cannot be written.</exception>
    public void Save(string path) => AtomicFile.Write(path, stream => JsonSerializer.Serialize(stream, this, Form));

    /// <summary>Reads and checks a file.</summary>
    /// <exception cref="InputException">Missing, of another version, or not consistent.</exception>
    public static StudyClues Load(string path)
    {
        var clues = JsonFile.Read<StudyClues>(path, "a usable file of clues", Form);
        if (clues.Format != Version)
            throw new InputException(path, $"has clues of format {clues.Format}, this program reads {Version}");
        if (clues.ImageSize is < 1 or > 4096 || clues.Galleries.Count != SliceSelector.Count)
            throw new InputException(path, "has clues of impossible sizes");
        if (clues.Entities.Any(e => e.Slice >= 0
            ? e.Slice >= clues.Galleries.Count || e.Mask < 0 || e.Mask >= clues.Galleries[e.Slice].Count
            : e.Slice != -1 || e.Mask != -1))
            throw new InputException(path, "has an entity with a mask that isn't there");
        try
        {
            for (int s = 0; s < clues.Galleries.Count; s++)
            {
                for (int m = 0; m < clues.Galleries[s].Count; m++)
                    clues.Mask(s, m);
            }
            return clues;
        }
        catch (FormatException e)
        {
            throw new InputException(path, $"has a mask that cannot be read ({e.Message})", e);
        }
    }
}
