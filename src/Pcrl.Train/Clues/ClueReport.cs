using System.Globalization;
using Pcrl.Runtime.Studies;
using Pcrl.Train.Data;
using Pcrl.Train.Fitting;

namespace Pcrl.Train.Clues;

/// <summary>How good clues are against the true masks of phantoms.</summary>
/// <param name="Things">Organs (with all their parts) and lesions larger than 1 % of their slice.</param>
/// <param name="MeanBestIou">Mean over them of the best IoU among all automatic masks of the slice.</param>
/// <param name="MeanBestGalleryIou">The same among the five masks of the gallery only.</param>
/// <param name="Kinds">Mean best IoU among all masks by organ, the lesions last.</param>
/// <param name="PartIou">Mean best IoU over the connected parts of organs larger than 1 % of the slice, among all masks.</param>
/// <param name="Retrievals">Entities named in the findings that phantoms draw.</param>
/// <param name="Overlapping">Share of them whose mask touches the entity.</param>
/// <param name="Drawn">Those of them that are on a slice of their layers at all: no mask can touch the others.</param>
/// <param name="DrawnOverlapping">Share of <paramref name="Drawn"/> whose mask touches the entity.</param>
/// <param name="Fitting">Share of them whose mask lies in the entity with at least a quarter of its pixels, or covers a quarter of the entity.</param>
/// <param name="Chance">What a random mask of the entity's gallery would reach in <paramref name="Overlapping"/>.</param>
/// <param name="ChanceFitting">The same in <paramref name="Fitting"/>.</param>
public sealed record ClueReport(
    int Things, double MeanBestIou, double MeanBestGalleryIou, IReadOnlyList<(string Name, int Count, double Iou)> Kinds, double PartIou,
    int Retrievals, double Overlapping, int Drawn, double DrawnOverlapping, double Fitting, double Chance, double ChanceFitting)
{
    /// <summary>Share of a slice above which a thing counts.</summary>
    private const double SmallestShare = 0.01;

    private const string Lesion = "lesion";

    /// <summary>Measures on phantoms that the models have not seen.</summary>
    public static ClueReport Measure(
        ClueMaker maker, ulong firstSeed, int count, PhantomOptions options, int imageSize, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var clock = System.Diagnostics.Stopwatch.StartNew();
        List<double> best = [], bestInGallery = [], parts = [];
        List<(string Name, double Iou)> kinds = [];
        List<(bool Overlaps, bool Fits, bool Drawn)> found = [];
        List<(double Overlaps, double Fits)> chance = [];
        for (int i = 0; i < count; i++)
        {
            var truth = PhantomClueStudy.Create(firstSeed + (ulong)i, options, imageSize);
            var masks = maker.Segment(truth.Study, cancellation);
            var decoded = Array.ConvertAll(masks, slice => slice.Select(m => m.Mask.Decode()).ToList());
            var galleries = Array.ConvertAll(masks, slice => MaskGallery.Select(slice).Select(m => m.Mask.Decode()).ToList());
            for (int s = 0; s < masks.Length; s++)
            {
                int smallest = (int)Math.Ceiling(SmallestShare * imageSize * imageSize);
                var things = truth.Things(s, smallest).ToLookup(t => t.IsLesion);
                double Best(List<bool[]> among, PhantomThing thing) => among.Select(m => MaskGeometry.Iou(m, thing.Mask)).DefaultIfEmpty(0).Max();
                foreach (var thing in truth.Organs(s, smallest).Concat(things[true]))
                {
                    best.Add(Best(decoded[s], thing));
                    bestInGallery.Add(Best(galleries[s], thing));
                    kinds.Add((thing.IsLesion ? Lesion : thing.Organ.ToString(), best[^1]));
                }
                parts.AddRange(things[false].Select(part => Best(decoded[s], part)));
            }
            var clues = maker.Make(truth.Study, masks, cancellation);
            foreach (var entity in clues.Entities.Where(e => e.Slice >= 0 && PhantomClueStudy.OrgansOf(e.Entity).Count > 0))
            {
                var searched = ClueVocabulary.Default.LayersOf(entity.Entity)
                    .SelectMany(l => Enumerable.Range(l * SliceSelector.SlicesPerLayer, SliceSelector.SlicesPerLayer))
                    .Select(s => (Masks: galleries[s], Truth: truth.EntityMask(entity.Entity, s))).ToList();
                var (overlaps, fits) = Overlap(clues.Mask(entity.Slice, entity.Mask).Decode(), truth.EntityMask(entity.Entity, entity.Slice));
                found.Add((overlaps, fits, searched.Any(s => s.Truth.Contains(true))));
                var all = searched.SelectMany(s => s.Masks.Select(m => Overlap(m, s.Truth))).ToList();
                chance.Add((all.Average(o => o.Overlaps ? 1.0 : 0), all.Average(o => o.Fits ? 1.0 : 0)));
            }
            progress.Report(new StageProgress("measure", i + 1, count, "phantoms", clock.Elapsed, null));
        }
        var drawn = found.Where(f => f.Drawn).ToList();
        static double Mean(IEnumerable<double> values) => values.DefaultIfEmpty(double.NaN).Average();
        return new ClueReport(best.Count, Mean(best), Mean(bestInGallery),
            [.. kinds.GroupBy(k => k.Name).OrderBy(k => k.Key == Lesion).ThenBy(k => k.Key, StringComparer.Ordinal).Select(k => (k.Key, k.Count(), k.Average(t => t.Iou)))], Mean(parts), found.Count,
            Mean(found.Select(f => f.Overlaps ? 1.0 : 0)), drawn.Count, Mean(drawn.Select(f => f.Overlaps ? 1.0 : 0)), Mean(found.Select(f => f.Fits ? 1.0 : 0)), Mean(chance.Select(c => c.Overlaps)), Mean(chance.Select(c => c.Fits)));
    }

    /// <summary>The figures as lines of text.</summary>
    public string Table() => "mean best IoU by kind, all automatic masks\n" + string.Concat(Kinds.Select(kind => string.Create(CultureInfo.InvariantCulture,
        $"{$"  {kind.Name} ({kind.Count})",-44}{kind.Iou:0.000}\n"))) + string.Create(CultureInfo.InvariantCulture, $"""
        organs and lesions above 1 % of the slice   {Things}
        mean best IoU, all automatic masks          {MeanBestIou:0.000}
        mean best IoU, gallery of {MaskGallery.Size} masks           {MeanBestGalleryIou:0.000}
        mean best IoU, connected parts of organs    {PartIou:0.000}
        entities retrieved                          {Retrievals}
        mask overlaps the entity                    {Overlapping:0.0 %}  (a random mask {Chance:0.0 %})
        … of the {$"{Drawn}",-3} on a slice of their layers    {DrawnOverlapping:0.0 %}
        mask is a quarter of it or in it            {Fitting:0.0 %}  (a random mask {ChanceFitting:0.0 %})

        """);

    private static (bool Overlaps, bool Fits) Overlap(bool[] mask, bool[] entity)
    {
        int both = 0, inMask = 0, inEntity = 0;
        for (int i = 0; i < mask.Length; i++)
        {
            both += mask[i] & entity[i] ? 1 : 0;
            inMask += mask[i] ? 1 : 0;
            inEntity += entity[i] ? 1 : 0;
        }
        return (both > 0, both > 0 && (4 * both >= inMask || 4 * both >= inEntity));
    }
}
