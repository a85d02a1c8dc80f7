namespace Pcrl.Runtime.Studies;

internal enum StudyFileKind { Dicom, Nifti, Picture, Other }

/// <summary>One file of a study's folder, told by its first bytes and not by its name alone.</summary>
/// <param name="Path">Where to open it.</param>
/// <param name="Source">Its name relative to the study, with '/' between folders.</param>
/// <param name="Kind">What it is.</param>
/// <param name="Reason">For <see cref="StudyFileKind.Other"/>: why it is no slice.</param>
internal sealed record StudyFile(string Path, string Source, StudyFileKind Kind, string Reason = "")
{
    public const string NotAnImage = "not an image";

    public static StudyFile Sniff(string folder, string path)
    {
        string source = System.IO.Path.GetRelativePath(folder, path).Replace('\\', '/');
        StudyFile Is(StudyFileKind kind, string reason = "") => new(path, source, kind, reason);

        Span<byte> head = stackalloc byte[132];
        try
        {
            FileSystemInfo? target = new FileInfo(path);
            target = target.LinkTarget is null ? target : target.ResolveLinkTarget(returnFinalTarget: true);
            // Pipes and devices have no length either, and opening them could wait for ever.
            if (target is not FileInfo { Exists: true, Length: > 0 } file)
            {
                return Is(StudyFileKind.Other, "an empty file");
            }
            using var handle = File.OpenHandle(file.FullName);
            head = head[..RandomAccess.Read(handle, head, 0)];
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return Is(StudyFileKind.Other, "it cannot be opened");
        }

        if (head.Length == 132 && head[128..].SequenceEqual("DICM"u8))
        {
            return Is(StudyFileKind.Dicom);
        }
        if (IsNiftiName(path))
        {
            return Is(StudyFileKind.Nifti);
        }
        if (head.StartsWith((ReadOnlySpan<byte>)[0x89, (byte)'P', (byte)'N', (byte)'G']) || head.StartsWith((ReadOnlySpan<byte>)[0xFF, 0xD8, 0xFF]))
        {
            return Is(StudyFileKind.Picture);
        }
        return Is(StudyFileKind.Other, System.IO.Path.GetExtension(path).ToLowerInvariant() switch
        {
            ".dcm" => "named .dcm, but no DICOM Part-10 file",
            ".png" or ".jpg" or ".jpeg" => "named as a picture, but neither PNG nor JPEG",
            _ => NotAnImage,
        });
    }

    public static bool IsNiftiName(string path) =>
        path.EndsWith(".nii", StringComparison.OrdinalIgnoreCase) || path.EndsWith(".nii.gz", StringComparison.OrdinalIgnoreCase);
}
