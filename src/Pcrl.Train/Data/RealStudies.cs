using Pcrl.Runtime.Studies;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Data;

/// <summary>The real scans of CT-ICH as training studies for the trunk: pictures and bleeding labels, no findings.</summary>
internal static class RealStudies
{
    /// <summary>The kinds of bleeding that the data set labels.</summary>
    private static readonly LesionKind[] Kinds =
        [LesionKind.Haemorrhage, LesionKind.Subdural, LesionKind.Epidural, LesionKind.Subarachnoid, LesionKind.Intraventricular];

    /// <summary>Reads every scan of a folder through the same road as any study.</summary>
    /// <param name="folder">Folder with <c>labels.csv</c>.</param>
    /// <param name="imageSize">Side of the prepared slices.</param>
    /// <param name="cancellation">Looked at before every scan.</param>
    /// <exception cref="Runtime.InputException">The folder is not such a data set, or a picture cannot be read.</exception>
    public static List<TrainingStudy> Load(string folder, int imageSize, CancellationToken cancellation)
    {
        var studies = new List<TrainingStudy>();
        foreach (var scan in CtIch.Load(folder))
        {
            cancellation.ThrowIfCancellationRequested();
            var study = StudyReader.Read(Path.GetDirectoryName(scan.Slices[0].Picture)!, cancellation);
            var selection = SliceSelector.Select(study);
            var byName = scan.Slices.ToDictionary(s => Path.GetFileName(s.Picture));
            var labels = new byte[selection.Slices.Count * SliceLabels.Count];
            Array.Fill(labels, TrainingStudy.Unknown); // the labels name kinds of blood; side, region and all else are not known
            for (int i = 0; i < selection.Slices.Count; i++)
            {
                if (!byName.TryGetValue(Path.GetFileName(selection.Slices[i].Source), out var slice))
                    continue;
                void Set(string label, bool on) => labels[i * SliceLabels.Count + SliceLabels.IndexOf(label)] = (byte)(on ? 1 : 0);
                Set("any-blood", slice.Bleeds.Count > 0);
                foreach (var kind in Kinds)
                    Set($"kind:{kind}", slice.Bleeds.Contains(kind));
            }
            byte[] slices = TrainingStudy.ToBytes(SliceImages.Prepare(study, selection, imageSize, WindowChoice.Brain));
            studies.Add(new TrainingStudy((ulong)studies.Count, slices, labels, null, [], []));
        }
        return studies;
    }

    /// <summary>The same with texts derived from their labels, and the patient of each.</summary>
    /// <exception cref="Runtime.InputException">As in <see cref="Load"/>.</exception>
    public static List<(string Patient, TrainingStudy Study)> WithText(string folder, int imageSize, CancellationToken cancellation) =>
        [.. CtIch.Load(folder).Zip(Load(folder, imageSize, cancellation), (scan, study) => (scan.Patient, study with { Findings = [scan.DerivedFindings] }))];
}
