using System.Diagnostics;
using System.Text.Json;
using Pcrl.Runtime;
using Pcrl.Runtime.Studies;
using Pcrl.Train.Clues;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Fitting;

namespace Pcrl.Train.Data;

/// <summary>
/// CTRG-Brain in its authors' layout:
/// <list type="table">
/// <item><term><c>findings.json</c></term><description><c>[{"id": "1478", "findings": "…"}]</c>, further fields such as <c>impression</c> are not read</description></item>
/// <item><term><c>slices.json</c></term><description><c>[{"id": "1478", "patient": "17", "slices": ["01.png", …]}]</c>: 24 pictures of <c>images/ID/</c>, caudal to cranial, three for each of
/// the 8 layers; <c>patient</c> may be left out where every study is of another one</description></item>
/// <item><term><c>images/ID/</c></term><description>windowed 8-bit pictures, PNG or JPEG</description></item>
/// </list>
/// </summary>
internal static class Ctrg
{
    private sealed record Entry(string Id, IReadOnlyList<string> Slices, string? Patient = null);

    private static readonly JsonSerializerOptions Form = JsonFile.Form(JsonNamingPolicy.SnakeCaseLower);

    /// <summary>Reads the whole data set, with the patient of each study.</summary>
    /// <param name="folder">The data set.</param>
    /// <param name="clues">Folder of prepared clues, a file for each study; null for none.</param>
    /// <param name="imageSize">Side of the prepared slices.</param>
    /// <param name="progress">Told about every study.</param>
    /// <param name="cancellation">Stops between two studies.</param>
    /// <exception cref="InputException">A file is missing or not of this form, or a study lacks findings, pictures or clues.</exception>
    public static List<(string Patient, TrainingStudy Study)> Load(
        string folder, string? clues, int imageSize, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        string manifest = Path.Combine(folder, "slices.json");
        var entries = ReadManifest(manifest);
        string findingsFile = Path.Combine(folder, "findings.json");
        var findings = new Dictionary<string, string>();
        foreach (var record in ReportFile.Read(findingsFile, cancellation))
        {
            if (!findings.TryAdd(record.Id, record.Texts[0]))
                throw new InputException(findingsFile, $"has findings of {record.Id} twice");
        }
        var clock = Stopwatch.StartNew();
        var studies = new List<(string, TrainingStudy)>();
        foreach (var entry in entries)
        {
            cancellation.ThrowIfCancellationRequested();
            if (!findings.TryGetValue(entry.Id, out string? text))
                throw new InputException(findingsFile, $"has no findings of study {entry.Id}");
            string clean = FindingsText.Clean(text, ClueVocabulary.Default);
            if (clean.Length == 0)
                throw new InputException(findingsFile, $"says nothing of the head in study {entry.Id}");
            byte[] slices = Slices(Path.Combine(folder, "images", entry.Id), manifest, entry, imageSize, cancellation);
            studies.Add((entry.Patient ?? entry.Id, new TrainingStudy((ulong)studies.Count, slices, Unlabelled(), null, [clean], [])
            {
                Clues = clues is null ? null : StudyClues.Load(PrepareRun.FileOf(clues, entry.Id)).Slices(),
            }));
            progress.Report(new StageProgress("read", studies.Count, entries.Length, "studies", clock.Elapsed, null));
        }
        return studies;
    }

    private static byte[] Unlabelled()
    {
        var labels = new byte[SliceSelector.Count * SliceLabels.Count];
        Array.Fill(labels, TrainingStudy.Unknown);
        return labels;
    }

    /// <summary>The slices that the manifest names, cropped as everywhere.</summary>
    private static byte[] Slices(string images, string manifest, Entry entry, int imageSize, CancellationToken cancellation)
    {
        var study = StudyReader.Read(images, cancellation);
        var places = new Dictionary<string, int>();
        for (int i = 0; i < study.Slices.Count; i++)
            places[Path.GetFileName(study.Slices[i].Source)] = i;
        var selection = SliceSelector.Select(study);
        var chosen = entry.Slices.Select((name, i) => places.TryGetValue(name, out int slice)
            ? selection.Slices[i] with { Slice = slice, Source = name, Reason = "named by the manifest" }
            : throw new InputException(manifest, $"names {name} of study {entry.Id}, which is not among its pictures"));
        return TrainingStudy.ToBytes(SliceImages.Prepare(study, selection with { Slices = [.. chosen] }, imageSize, WindowChoice.Brain));
    }

    private static Entry[] ReadManifest(string path)
    {
        var entries = JsonFile.Read<Entry[]>(path, "a manifest of slices", Form);
        if (entries.Length == 0)
            throw new InputException(path, "names no studies");
        foreach (var entry in entries)
        {
            if (!ClueDataset.IsSafeId(entry.Id))
                throw new InputException(path, $"has an id that is no file name: '{entry.Id}'");
            if (entry.Slices.Count != SliceSelector.Count)
                throw new InputException(path, $"names {entry.Slices.Count} slices of study {entry.Id}, {SliceSelector.Count} are needed");
        }
        if (entries.GroupBy(e => e.Id).FirstOrDefault(g => g.Count() > 1) is { } twice)
            throw new InputException(path, $"names study {twice.Key} twice");
        return entries;
    }
}
