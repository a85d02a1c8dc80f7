using Pcrl.Runtime.Studies;
using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Clues;

/// <summary>
/// The clues of a phantom from what is known of it, without Segment Anything and CLIP: the mask of an entity is the lesion that lies in it, or else the organ of that
/// name, on the slice that shows most of it. As with retrieved masks, an entity has one slice.
/// </summary>
internal sealed class PhantomClues
{
    private const int Cells = SliceRaster.Side * SliceRaster.Side, Marks = 256;

    /// <summary>The entity that a lesion's mark in a raster belongs to; empty for none.</summary>
    private static readonly string[] EntityOfLesion = ["", .. SliceLabels.Names.Select(EntityOf)];

    private readonly SliceRaster _raster;
    private readonly int[] _organs, _lesions; // [24, marks]: cells

    public PhantomClues(SliceRaster raster)
    {
        _raster = raster;
        _organs = Count(raster.Organs);
        _lesions = Count(raster.Lesions);
    }

    /// <summary>The clues of one wording of the findings.</summary>
    /// <param name="findings">The wording.</param>
    /// <param name="vocabulary">Entities.</param>
    /// <param name="organs">Whether an organ without a lesion has a mask; else only its clauses stand at its slice, and the mask is empty.</param>
    public IReadOnlyList<SliceClue> Of(string findings, ClueVocabulary vocabulary, bool organs)
    {
        var found = new List<(int, bool[], string)>();
        foreach (var (entity, text) in FindingsText.Clues(findings, vocabulary).Entities)
        {
            bool[] lesions = Table(mark => mark < EntityOfLesion.Length && EntityOfLesion[mark] == entity);
            var named = PhantomClueStudy.OrgansOf(entity);
            bool[] healthyMarks = Table(mark => named.Contains((PhantomOrgan)(mark / 2)));
            // The organ is looked for at its levels, a lesion wherever it lies.
            int[] levels = [.. vocabulary.LayersOf(entity).SelectMany(l => Enumerable.Range(l * SliceSelector.SlicesPerLayer, SliceSelector.SlicesPerLayer))];
            if (Best(_lesions, lesions, Enumerable.Range(0, SliceSelector.Count)) is { } ill)
                found.Add((ill, Mask(_raster.Lesions, lesions, ill), text));
            else if (Best(_organs, healthyMarks, levels) is { } healthy)
                found.Add((healthy, organs ? Mask(_raster.Organs, healthyMarks, healthy) : new bool[Cells], text));
        }
        return SliceClue.Merge(found, SliceRaster.Side);
    }

    private static int[] Count(byte[] marks)
    {
        var counts = new int[SliceSelector.Count * Marks];
        for (int i = 0; i < marks.Length; i++)
            counts[i / Cells * Marks + marks[i]]++;
        return counts;
    }

    private static bool[] Table(Func<int, bool> wanted) => [.. Enumerable.Range(0, Marks).Select(wanted)];

    /// <summary>The slice with most cells of the wanted marks; null where none has any.</summary>
    private static int? Best(int[] counts, bool[] wanted, IEnumerable<int> slices)
    {
        (int Slice, int Count) best = (-1, 0);
        foreach (int slice in slices)
        {
            int count = 0;
            for (int mark = 0; mark < Marks; mark++)
                count += wanted[mark] ? counts[slice * Marks + mark] : 0;
            if (count > best.Count)
                best = (slice, count);
        }
        return best.Slice < 0 ? null : best.Slice;
    }

    private static bool[] Mask(byte[] marks, bool[] wanted, int slice) => Array.ConvertAll(marks[(slice * Cells)..((slice + 1) * Cells)], mark => wanted[mark]);

    /// <summary>"Infarct:Frontal:Left" → 额叶; blood outside the brain's substance belongs to the space it fills.</summary>
    private static string EntityOf(string label)
    {
        string[] parts = label.Split(':');
        if (!Enum.TryParse<LesionKind>(parts[0], out var kind))
            return "";
        return kind switch
        {
            LesionKind.Subarachnoid => "脑沟",
            LesionKind.Intraventricular => "侧脑室",
            LesionKind.Subdural or LesionKind.Epidural => "",
            _ => PhantomText.NameOf(Enum.Parse<BrainRegion>(parts[1])),
        };
    }
}
