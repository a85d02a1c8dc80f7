namespace Pcrl.Runtime;

/// <summary>Tells files from pipes and devices before they are opened: opening a pipe can wait for ever, and a device never ends.</summary>
internal static class RegularFile
{
    /// <summary>The file that a path leads to, links followed; null if there is none, it is empty, or it is a folder, pipe or device (these have no length).</summary>
    /// <exception cref="IOException">Links that lead in a circle.</exception>
    /// <exception cref="UnauthorizedAccessException">No permission to look.</exception>
    public static FileInfo? Find(string path)
    {
        FileSystemInfo? file = new FileInfo(path);
        if (file.LinkTarget is not null)
            file = file.ResolveLinkTarget(returnFinalTarget: true);
        return file is FileInfo { Exists: true, Length: > 0 } found ? found : null;
    }
}
