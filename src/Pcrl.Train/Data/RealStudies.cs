using System.Diagnostics;
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
    /// Changed copies of scans, with the labels of their slices: what the joint fit puts its label-derived studies together from (<see cref="StudySplicer"/>).
    /// </summary>
    /// <param name="scans">At least one.</param>
    /// <param name="painted">Scans with painted blood (<see cref="PaintedBlood"/>), taken as often as the others; may be empty.</param>
    /// <param name="config">How many, how large and how much changed; the seed of the changes. The noise is from this thread's generator.</param>
    /// <param name="progress">Told after every view.</param>
    /// <param name="cancellation">Looked at before every view.</param>
    public static List<TrainingStudy> Views(
        IReadOnlyList<RealScan> scans, IReadOnlyList<RealScan> painted, RunConfig config, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var random = new Random(config.Seed);
        var views = new List<TrainingStudy>(config.ScanFit.Views);
        var clock = Stopwatch.StartNew();
        for (int i = 0; i < config.ScanFit.Views; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            var scan = painted.Count == 0 ? scans[i % scans.Count] : i % 2 == 0 ? scans[i / 2 % scans.Count] : painted[i / 2 % painted.Count];
            byte[] slices = Change(scan.Study.Slices, config.Visual.ImageSize, config.ScanFit.ViewAugmentation, random);
            views.Add(Labelled((ulong)i, slices, scan.Study.Labels) with { Spliceable = true });
            progress.Report(new StageProgress("views", i + 1, config.ScanFit.Views, "scans", clock.Elapsed, null));
        }
        return views;
    }

    /// <summary>All slices of a scan move together.</summary>
    private static byte[] Change(byte[] bytes, int imageSize, float strength, Random random)
    {
        var move = SliceAugmentation.Move.Draw(random, strength, sideless: true);
        using var scope = NewDisposeScope();
        var slices = tensor(bytes).view(-1, imageSize, imageSize).to(float32) / 255;
        var changed = SliceAugmentation.Apply(slices, [.. Enumerable.Repeat(move, (int)slices.shape[0])], strength);
        return TrainingStudy.ToBytes(Weights.Floats(changed));
    }

    /// <summary>A study whose findings are worded from its labels, the kind that is seen on most slices first.</summary>
    /// <param name="number">Seed of the wordings.</param>
    /// <param name="slices">[24, S, S].</param>
    /// <param name="labels">[24, labels] (<see cref="SliceLabels"/>).</param>
    public static TrainingStudy Labelled(ulong number, byte[] slices, byte[] labels)
    {
        int Slices(LesionKind kind) => Enumerable.Range(0, SliceSelector.Count)
            .Count(i => labels[i * SliceLabels.Count + SliceLabels.IndexOf($"kind:{kind}")] == 1);
        LesionKind[] kinds = [.. LabelFindings.Kinds.Where(k => Slices(k) > 0).OrderByDescending(Slices)];
        string[] findings = [.. Enumerable.Range(0, Wordings).Select(i => LabelFindings.Compose(kinds, new PhantomRandom(number, (ulong)i)))];
        return new TrainingStudy(number, slices, labels, null, findings, []);
    }
}
