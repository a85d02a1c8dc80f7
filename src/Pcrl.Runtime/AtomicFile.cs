namespace Pcrl.Runtime;

/// <summary>Writes files that are either whole or absent, whenever the process dies.</summary>
public static class AtomicFile
{
    /// <summary>
    /// Writes to <c>PATH.tmp-PID</c> beside the target, flushes to disk, then renames over <paramref name="path"/>.
    /// On any failure the temporary file is deleted and the target keeps its old content.
    /// </summary>
    /// <exception cref="InputException">The folder is missing, not writable, or the disk is full.</exception>
    public static void Write(string path, Action<Stream> write)
    {
        string temporary = $"{path}.tmp-{Environment.ProcessId}";
        try
        {
            using (var stream = new FileStream(temporary, FileMode.Create, FileAccess.Write, FileShare.None, 1 << 16))
            {
                write(stream);
                stream.Flush(flushToDisk: true);
            }
            File.Move(temporary, path, overwrite: true);
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
