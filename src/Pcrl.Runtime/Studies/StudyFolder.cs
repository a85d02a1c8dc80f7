namespace Pcrl.Runtime.Studies;

/// <summary>What lies at a path: a study, or a folder of studies.</summary>
/// <param name="Studies">Paths of the studies, in natural order; the path itself where it is one study, readable or not.</param>
/// <param name="WithoutImages">Subfolders of a folder of studies that hold no image that can be opened, and so are no studies.</param>
public sealed record StudyFolder(IReadOnlyList<string> Studies, int WithoutImages)
{
    /// <summary>
    /// Tells a folder of studies from a study. A folder is one of studies if it holds no slices itself, but several NIfTI volumes or a subfolder of
    /// images; subfolders of nothing but DICOM files are the series of one study, unless their files name different studies. Everything else is one study,
    /// readable or not.
    /// </summary>
    /// <param name="path">A study, or a folder of studies.</param>
    /// <exception cref="InputException">The folder cannot be listed.</exception>
    public static StudyFolder Look(string path)
    {
        try
        {
            if (!Directory.Exists(path))
                return new StudyFolder([path], 0);
            var own = Images(path);
            if (own.Exists(file => file.Kind is StudyFileKind.Dicom or StudyFileKind.Picture))
                return new StudyFolder([path], 0);
            var folders = Directory.GetDirectories(path).Select(folder => (Path: folder, Images: Images(folder))).ToList();
            int without = folders.RemoveAll(folder => folder.Images.Count == 0);
            bool areSeries = own.Count == 0 && folders.TrueForAll(folder => folder.Images.TrueForAll(file => file.Kind == StudyFileKind.Dicom))
                && folders.Select(folder => StudyId(folder.Images[0])).Where(id => id != "").Distinct().Count() < 2;
            if (areSeries || (folders.Count == 0 && own.Count < 2))
                return new StudyFolder([path], 0);
            string[] studies = [.. own.Select(volume => volume.Path), .. folders.Select(folder => folder.Path)];
            Array.Sort(studies, NaturalOrder.Compare);
            return new StudyFolder(studies, without);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InputException(path, $"cannot be listed ({e.Message})", e);
        }
    }

    /// <summary>The study that a DICOM file names; empty where it names none or cannot be read, which reading the study will tell.</summary>
    private static string StudyId(StudyFile file)
    {
        try
        {
            return DicomFile.Read(file).StudyId;
        }
        catch (InputException)
        {
            return "";
        }
    }

    private static List<StudyFile> Images(string folder) => [.. Directory.EnumerateFiles(folder, "*", new EnumerationOptions { IgnoreInaccessible = true })
        .Select(file => StudyFile.Sniff(folder, file)).Where(file => file.Kind != StudyFileKind.Other)];
}
