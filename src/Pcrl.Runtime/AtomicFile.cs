using System.Text;

namespace Pcrl.Runtime;

/// <summary>Writes files that are either whole or absent, whenever the process dies.</summary>
public static class AtomicFile
{
    /// <summary>What stands behind the target's name while something is written that a killed process could go on with.</summary>
    public const string PartialSuffix = ".partial";

    /// <summary>
    /// Refuses a target that cannot become a file, so that a command can say so before hours of work and not after them. Devices are
    /// refused because renaming over one would replace it: as root, <c>/dev/null</c> would be gone for every program.
    /// </summary>
    /// <param name="path">Where something is to be written; a link counts as what it points to.</param>
    /// <param name="inputs">Files and folders that are read: none of their files may be replaced. A new file beside them may be made.</param>
    /// <exception cref="InputException">The path is empty, a folder, a device or an input, or its folder does not exist.</exception>
    public static void CheckTarget(string path, params ReadOnlySpan<string> inputs)
    {
        string target = Real(Target(path));
        foreach (string input in inputs)
        {
            string real = Real(Path.GetFullPath(input));
            if (File.Exists(target) && (target == real || IsBelow(target, Path.TrimEndingDirectorySeparator(real))))
                throw new InputException(path, "cannot be written: it is an input");
        }
    }

    /// <summary>The path without links, those of its folders included; as it is where one cannot be followed.</summary>
    private static string Real(string full, int links = 40)
    {
        string real = Path.GetPathRoot(full)!;
        foreach (string part in full[real.Length..].Split(Path.DirectorySeparatorChar, StringSplitOptions.RemoveEmptyEntries))
        {
            real = Path.Join(real, part);
            try
            {
                if (links > 0 && new FileInfo(real).ResolveLinkTarget(returnFinalTarget: true) is { } target)
                    real = Real(target.FullName, links - 1);
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                // nothing there, or a link that leads nowhere
            }
        }
        return real;
    }

    // The file itself where the path is a link, which is kept.
    private static string Target(string path)
    {
        if (path.Length == 0)
            throw new InputException("output", "the file name is empty");
        string target;
        try
        {
            target = new FileInfo(path).ResolveLinkTarget(returnFinalTarget: true)?.FullName ?? Path.GetFullPath(path);
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            target = Path.GetFullPath(path); // no file there yet
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InputException(path, $"cannot be written ({e.Message})", e);
        }
        if (Directory.Exists(target) || Path.EndsInDirectorySeparator(target))
            throw new InputException(path, "cannot be written: it is a folder");
        bool isDevice = IsBelow(target, "/proc") || (IsBelow(target, "/dev") && !IsBelow(target, "/dev/shm"));
        if (isDevice || !IsFileOrNothing(path, target))
            throw new InputException(path, "cannot be written: it is a device or pipe, not a file");
        if (!Directory.Exists(Path.GetDirectoryName(target)))
            throw new InputException(path, "cannot be written: its folder does not exist");
        return target;
    }

    /// <summary>False for a pipe or socket, which has no length. Opened to read and write, a pipe does not wait for its other end.</summary>
    private static bool IsFileOrNothing(string path, string target)
    {
        if (!File.Exists(target) || new FileInfo(target).Length > 0)
            return true;
        try
        {
            using var stream = new FileStream(target, FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, 0);
            return stream.CanSeek;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InputException(path, $"cannot be written ({e.Message})", e);
        }
    }

    private static bool IsBelow(string path, string folder) => path.StartsWith(folder + "/", StringComparison.Ordinal);

    /// <summary>Writes a text as UTF-8, ended by a line break whether it has one or not; else as <see cref="Write"/>.</summary>
    public static void WriteText(string path, string text) =>
        Write(path, stream => stream.Write(Encoding.UTF8.GetBytes(text.EndsWith('\n') ? text : text + "\n")));

    /// <summary>
    /// Writes to <c>PATH.tmp-PID</c> beside the target, flushes to disk, then renames over <paramref name="path"/>.
    /// On any failure the temporary file is deleted and the target keeps its old content.
    /// </summary>
    /// <exception cref="InputException">The folder is missing, not writable, or the disk is full.</exception>
    public static void Write(string path, Action<Stream> write)
    {
        string target = Target(path);
        string temporary = $"{target}.tmp-{Environment.ProcessId}";
        try
        {
            using (var stream = new FileStream(temporary, FileMode.Create, FileAccess.Write, FileShare.None, 1 << 16))
            {
                write(stream);
                stream.Flush(flushToDisk: true);
            }
            File.Move(temporary, target, overwrite: true);
        }
        catch (Exception e)
        {
            try { File.Delete(temporary); } catch (IOException) { } catch (UnauthorizedAccessException) { }
            if (e is IOException or UnauthorizedAccessException)
                throw new InputException(path, $"cannot be written ({e.Message})", e);
            throw;
        }
    }
}
