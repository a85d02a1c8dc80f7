using Pcrl.Runtime.Studies;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Fitting;
using static TorchSharp.torch;

namespace Pcrl.Train.Data;

/// <summary>A scan of CT-ICH on its way into training.</summary>
/// <param name="Patient">The data set's number of the person.</param>
/// <param name="Bleeding">A slice of the scan is labelled with haemorrhage, among the 24 or not.</param>
/// <param name="Study">Its 24 slices, labels and label-derived findings.</param>
internal sealed record RealScan(string Patient, bool Bleeding, TrainingStudy Study);

/// <summary>The real scans of CT-ICH as training studies: pictures, labels of bleeding and texts derived from those.</summary>
internal static class RealStudies
{
    private const int Wordings = 6;

    /// <summary>Most scans that one spliced study takes slices from.</summary>
    private const int MostSources = 3;

    private static readonly int AnyBlood = SliceLabels.IndexOf("any-blood");

    /// <summary>Reads every scan of a folder through the same road as any study.</summary>
    /// <param name="folder">Folder with <c>labels.csv</c>.</param>
    /// <param name="imageSize">Side of the prepared slices.</param>
    /// <param name="cancellation">Looked at before every scan.</param>
    /// <exception cref="Runtime.InputException">The folder is not such a data set, or a picture cannot be read.</exception>
    public static List<RealScan> Load(string folder, int imageSize, CancellationToken cancellation)
    {
        var scans = new List<RealScan>();
        foreach (var scan in CtIch.Load(folder))
        {
            cancellation.ThrowIfCancellationRequested();
            var study = StudyReader.Read(Path.GetDirectoryName(scan.Slices[0].Picture)!, cancellation);
            var selection = SliceSelector.Select(study);
            var byName = scan.Slices.ToDictionary(s => Path.GetFileName(s.Picture));
            var labels = new byte[selection.Slices.Count * SliceLabels.Count];
            Array.Fill(labels, TrainingStudy.Unknown);
            for (int i = 0; i < selection.Slices.Count; i++)
            {
                if (byName.TryGetValue(Path.GetFileName(selection.Slices[i].Source), out var slice))
                    SliceLabels.Of(slice).CopyTo(labels, i * SliceLabels.Count);
            }
            byte[] slices = TrainingStudy.ToBytes(SliceImages.Prepare(study, selection, imageSize, WindowChoice.Brain));
            scans.Add(new RealScan(scan.Patient, scan.Slices.Any(s => s.Bleeds.Count > 0), Labelled((ulong)scans.Count, slices, labels)));
        }
        return scans;
    }

    /// <summary>
    /// Studies put together from runs of neighbouring slices of one to three scans, changed a little. What the labels of the slices say is what the text of
    /// the whole says, so a few dozen scans give any number of studies with true texts; two in five bleed, about as in the data set. Where a bleeding lies, how
    /// far it reaches and whose head it is in then tells nothing.
    /// </summary>
    /// <param name="scans">At least one.</param>
    /// <param name="painted">Scans with painted blood (<see cref="PaintedBlood"/>), taken as often as the others; may be empty.</param>
    /// <param name="config">How many, how large and how much changed; the seed of the choices. The noise is from this thread's generator.</param>
    public static List<TrainingStudy> Splice(IReadOnlyList<RealScan> scans, IReadOnlyList<RealScan> painted, RunConfig config)
    {
        RealScan[] all = [.. scans, .. painted];
        int Pick(Random random) => painted.Count > 0 && random.Next(2) == 0 ? scans.Count + random.Next(painted.Count) : random.Next(scans.Count);
        var (fit, imageSize) = (config.ScanFit, config.Visual.ImageSize);
        int count = fit.Splices;
        const int tries = 20;
        var random = new Random(config.Seed);
        var studies = new List<TrainingStudy>(count);
        while (studies.Count < count)
        {
            var (sources, labels) = Draw(all, Pick, random);
            for (int i = 0; i < tries && Bleeds(labels) != studies.Count % 5 < 2; i++)
                (sources, labels) = Draw(all, Pick, random);
            studies.Add(Labelled((ulong)studies.Count, Render(all, sources, imageSize, fit.SpliceAugmentation, random), labels));
        }
        return studies;
    }

    /// <summary>From which scan each of the 24 slices comes, and their labels.</summary>
    private static (int[] Sources, byte[] Labels) Draw(RealScan[] scans, Func<Random, int> pick, Random random)
    {
        var sources = new int[SliceSelector.Count];
        var labels = new byte[SliceSelector.Count * SliceLabels.Count];
        int parts = 1 + random.Next(MostSources);
        int[] cuts = [0, .. Enumerable.Range(1, parts - 1).Select(_ => random.Next(SliceSelector.Count)).Order(), SliceSelector.Count];
        for (int part = 0; part < parts; part++)
        {
            int scan = pick(random), from = cuts[part], length = cuts[part + 1] - from;
            sources.AsSpan(from, length).Fill(scan);
            scans[scan].Study.Labels.AsSpan(from * SliceLabels.Count, length * SliceLabels.Count).CopyTo(labels.AsSpan(from * SliceLabels.Count));
        }
        return (sources, labels);
    }

    private static byte[] Render(RealScan[] scans, int[] sources, int imageSize, float strength, Random random)
    {
        int plane = imageSize * imageSize;
        var bytes = new byte[sources.Length * plane];
        // Slices of one scan move together.
        var moves = sources.Distinct().ToDictionary(s => s, _ => SliceAugmentation.Move.Draw(random, strength, sideless: true));
        for (int i = 0; i < sources.Length; i++)
            scans[sources[i]].Study.Slices.AsSpan(i * plane, plane).CopyTo(bytes.AsSpan(i * plane));
        using var scope = NewDisposeScope();
        var slices = tensor(bytes).view(sources.Length, imageSize, imageSize).to(float32) / 255;
        var changed = SliceAugmentation.Apply(slices, [.. sources.Select(s => moves[s])], strength);
        return TrainingStudy.ToBytes(Weights.Floats(changed));
    }

    private static bool Bleeds(byte[] labels) => Enumerable.Range(0, SliceSelector.Count).Any(i => labels[i * SliceLabels.Count + AnyBlood] == 1);

    /// <summary>A study whose findings are worded from its labels, the kind that is seen on most slices first.</summary>
    private static TrainingStudy Labelled(ulong number, byte[] slices, byte[] labels)
    {
        int Slices(LesionKind kind) => Enumerable.Range(0, SliceSelector.Count)
            .Count(i => labels[i * SliceLabels.Count + SliceLabels.IndexOf($"kind:{kind}")] == 1);
        LesionKind[] kinds = [.. LabelFindings.Kinds.Where(k => Slices(k) > 0).OrderByDescending(Slices)];
        string[] findings = [.. Enumerable.Range(0, Wordings).Select(i => LabelFindings.Compose(kinds, new PhantomRandom(number, (ulong)i)))];
        return new TrainingStudy(number, slices, labels, null, findings, []);
    }
}
