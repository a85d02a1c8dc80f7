using System.Runtime.ExceptionServices;

namespace Pcrl.Runtime.Studies;

/// <summary>
/// Reads a head CT, whatever files it lies in, into slices ordered from caudal to cranial and turned as a radiologist looks at them.
/// A path is a folder of PNG/JPEG pictures, a folder of uncompressed DICOM Part-10 files, a <c>.nii</c>/<c>.nii.gz</c> volume, or a folder
/// with exactly one such volume. DICOM files may also lie one level of subfolders down; nothing deeper is looked at.
/// In a mixed folder DICOM wins over NIfTI, and NIfTI over pictures. Files that are no images, or images of something else, are set
/// aside with a reason; an image that is damaged is refused, since a report on a CT with a hole in it would be worse than none.
/// </summary>
public static class StudyReader
{
    /// <summary>Fewest slices a study may have: fewer cannot stand for the 8 layers of a head.</summary>
    public const int MinimumSlices = 12;

    /// <summary>Most slices a study may have.</summary>
    public const int MaximumSlices = 1000;

    private const int MinimumSide = 16;
    private const int MaximumSide = 8192;
    private const long MaximumPixels = 1L << 29; // 2 GiB as float: twice 1000 slices of 512²
    private const int MaximumFiles = 20_000;

    /// <summary>Reads the study at a path.</summary>
    /// <param name="path">Folder or <c>.nii</c>/<c>.nii.gz</c> file.</param>
    /// <param name="cancellation">Looked at between files.</param>
    /// <exception cref="InputException">
    /// There is nothing there, nothing usable, fewer than <see cref="MinimumSlices"/> or more than <see cref="MaximumSlices"/> slices, a
    /// damaged image, more than one patient, or no axial CT. The message holds no patient data.
    /// </exception>
    /// <exception cref="OperationCanceledException">The reading was cancelled.</exception>
    public static Study Read(string path, CancellationToken cancellation = default)
    {
        ArgumentException.ThrowIfNullOrEmpty(path);
        try
        {
            if (Directory.Exists(path))
            {
                return ReadFolder(path, cancellation);
            }
            if (!File.Exists(path))
            {
                throw new InputException(path, "no such file or folder");
            }
            return StudyFile.IsNiftiName(path)
                ? NiftiReader.Read(path, Path.GetFileName(path), [], cancellation)
                : throw new InputException(path, "a study is a folder of images, or a .nii or .nii.gz file");
        }
        catch (UnauthorizedAccessException e)
        {
            throw new InputException(path, "no permission to read it", e);
        }
        catch (IOException e)
        {
            throw new InputException(path, "it cannot be read", e);
        }
    }

    private static Study ReadFolder(string folder, CancellationToken cancellation)
    {
        var files = Sniff(folder, Directory.EnumerateFiles(folder), cancellation);
        bool Holds(StudyFileKind kind) => files.Any(f => f.Kind == kind);

        // Discs put a DICOMDIR beside folders of series.
        if (Holds(StudyFileKind.Dicom) || !(Holds(StudyFileKind.Nifti) || Holds(StudyFileKind.Picture)))
        {
            var below = Directory.EnumerateDirectories(folder).SelectMany(
                sub => Directory.EnumerateFiles(sub, "*", new EnumerationOptions { IgnoreInaccessible = true, AttributesToSkip = 0 }));
            files.AddRange(Sniff(folder, below, cancellation).Where(f => f.Kind == StudyFileKind.Dicom));
        }
        files.Sort((a, b) => NaturalOrder.Compare(a.Source, b.Source));

        var kind = Holds(StudyFileKind.Dicom) ? StudyFileKind.Dicom : Holds(StudyFileKind.Nifti) ? StudyFileKind.Nifti : StudyFileKind.Picture;
        var chosen = files.FindAll(f => f.Kind == kind);
        var setAside = files.Where(f => f.Kind != kind)
            .Select(f => new SetAside(f.Source, f.Kind == StudyFileKind.Other ? f.Reason : $"the study is read from the {kind.ToString().ToUpperInvariant()} files"))
            .ToList();
        return kind switch
        {
            StudyFileKind.Dicom => DicomReader.Read(folder, chosen, setAside, cancellation),
            StudyFileKind.Picture => PictureReader.Read(folder, chosen, setAside, cancellation),
            _ when chosen.Count > 1 => throw new InputException(folder, $"holds {chosen.Count} NIfTI volumes: name one of them"),
            _ => NiftiReader.Read(chosen[0].Path, chosen[0].Source, setAside, cancellation),
        };
    }

    private static List<StudyFile> Sniff(string folder, IEnumerable<string> paths, CancellationToken cancellation)
    {
        var files = new List<StudyFile>();
        foreach (string path in paths)
        {
            cancellation.ThrowIfCancellationRequested();
            if (files.Count == MaximumFiles)
            {
                throw new InputException(folder, $"holds more than {MaximumFiles} files: name the folder of one study");
            }
            files.Add(StudyFile.Sniff(folder, path));
        }
        return files;
    }

    /// <summary>Refuses a number of slices, or a total of pixels, that no head CT has; called before pixels are allocated.</summary>
    internal static void CheckCount(string source, int slices, long pixelsPerSlice, IReadOnlyList<SetAside> setAside)
    {
        if (slices > MaximumSlices)
        {
            throw new InputException(source, $"holds {slices} slices, at most {MaximumSlices} are read");
        }
        if (slices * pixelsPerSlice > MaximumPixels)
        {
            throw new InputException(source, $"holds more than {MaximumPixels} pixels");
        }
        if (slices >= MinimumSlices)
        {
            return;
        }
        // A LICENSE beside the images explains nothing if there is a better reason.
        var reasons = setAside.GroupBy(s => s.Reason).OrderBy(g => g.Key == StudyFile.NotAnImage).ThenByDescending(g => g.Count()).ToList();
        string why = reasons.Count == 0 ? "" : $"; set aside: {reasons[0].Count()} ({reasons[0].Key})"
            + (reasons.Count > 1 ? $" and {setAside.Count - reasons[0].Count()} for other reasons" : "");
        throw new InputException(source, $"holds {slices} usable axial CT slices, at least {MinimumSlices} are needed{why}");
    }

    /// <summary>Why a picture of this size cannot be a CT slice, or null.</summary>
    internal static string? SizeProblem(long width, long height) =>
        Math.Min(width, height) < MinimumSide || Math.Max(width, height) > MaximumSide
            ? $"{width} × {height} pixels are no CT slice (each side {MinimumSide} to {MaximumSide})" : null;

    /// <summary>Does one thing to every item on all cores; of several failures the first item's is thrown, whatever the cores' timing.</summary>
    internal static TResult[] ForEach<TItem, TResult>(IReadOnlyList<TItem> items, Func<TItem, TResult> read, CancellationToken cancellation)
    {
        var results = new TResult[items.Count];
        var failures = new Exception?[items.Count];
        Parallel.For(0, items.Count, new ParallelOptions { CancellationToken = cancellation, MaxDegreeOfParallelism = Environment.ProcessorCount }, i =>
        {
            try
            {
                results[i] = read(items[i]);
            }
            catch (Exception e)
            {
                failures[i] = e;
            }
        });
        if (Array.Find(failures, f => f is not null) is { } failure)
        {
            ExceptionDispatchInfo.Throw(failure);
        }
        return results;
    }
}
