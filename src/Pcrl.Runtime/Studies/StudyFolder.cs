namespace Pcrl.Runtime.Studies;

/// <summary>Tells a folder of studies from a study.</summary>
public static class StudyFolder
{
    /// <summary>
    /// The studies at a path, in natural order. A folder is one of studies if it holds no slices itself, but several NIfTI volumes or subfolders of
    /// images; subfolders of nothing but DICOM files are the series of one study, unless their files name different studies. Everything else is one study,
    /// readable or not.
    /// </summary>
    /// <param name="path">A study, or a folder of studies.</param>
    /// <exception cref="InputException">The folder cannot be listed.</exception>
    public static IReadOnlyList<string> List(string path)
    {
        try
        {
            if (!Directory.Exists(path))
                return [path];
            var own = Kinds(path);
            if (own.Any(f => f.Kind is StudyFileKind.Dicom or StudyFileKind.Picture))
                return [path];
            var folders = Directory.GetDirectories(path).Select(folder => (Path: folder, Kinds: Kinds(folder).Select(f => f.Kind).Where(k => k != StudyFileKind.Other).ToHashSet()))
                .Where(folder => folder.Kinds.Count > 0).ToList();
            string[] volumes = [.. own.Where(f => f.Kind == StudyFileKind.Nifti).Select(f => f.Path)];
            bool areSeries = volumes.Length == 0 && folders.TrueForAll(folder => folder.Kinds.SetEquals([StudyFileKind.Dicom]))
                && folders.Select(folder => StudyId(folder.Path)).Where(id => id != "").Distinct().Count() < 2;
            if (volumes.Length + folders.Count < 2 || areSeries)
                return [path];
            string[] studies = [.. volumes, .. folders.Select(folder => folder.Path)];
            Array.Sort(studies, NaturalOrder.Compare);
            return studies;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InputException(path, $"cannot be listed ({e.Message})", e);
        }
    }

    /// <summary>The study that the first DICOM file of a folder names; empty where it names none or cannot be read, which reading the study will tell.</summary>
    private static string StudyId(string folder)
    {
        try
        {
            return DicomFile.Read(Kinds(folder).First(file => file.Kind == StudyFileKind.Dicom)).StudyId;
        }
        catch (InputException)
        {
            return "";
        }
    }

    private static List<StudyFile> Kinds(string folder) => [.. Directory.EnumerateFiles(folder, "*", new EnumerationOptions { IgnoreInaccessible = true })
        .Select(file => StudyFile.Sniff(folder, file))];
}
