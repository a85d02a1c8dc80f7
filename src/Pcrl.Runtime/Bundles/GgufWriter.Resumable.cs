using System.Diagnostics;
using System.Security.Cryptography;
using System.Text;

namespace Pcrl.Runtime.Bundles;

public sealed partial class GgufWriter
{
    private const string ProgressSuffix = ".progress";

    /// <summary>
    /// Writes everything added so far to <c>PATH.partial</c>, checks it, and renames it. A failure or cancellation leaves nothing; a process that is
    /// killed leaves the partial file with <c>PATH.partial.progress</c> beside it, and the same call goes on behind the last tensor that
    /// is known to be on the disk.
    /// </summary>
    /// <param name="path">File to write.</param>
    /// <param name="inputs">
    /// What the tensors are made from, in words that change when they do. Together with the header it decides whether a partial file is one of the same.
    /// Null: begin anew whatever lies there.
    /// </param>
    /// <param name="check">Looks at the whole file before it gets its name.</param>
    /// <param name="progress">Gets bytes written and bytes in all.</param>
    /// <param name="cancellation">Ends it between tensors.</param>
    /// <param name="betweenCheckpoints">How much work a kill may cost; none: ten seconds' worth.</param>
    /// <exception cref="InputException">The disk has not enough room, or the file cannot be written.</exception>
    public void SaveResumably(
        string path, string? inputs, Action<string> check, Action<long, long>? progress = null, CancellationToken cancellation = default,
        TimeSpan? betweenCheckpoints = null)
    {
        AtomicFile.CheckTarget(path);
        string partial = path + AtomicFile.PartialSuffix, progressPath = partial + ProgressSuffix;
        bool isOurs = false;
        try
        {
            using (var stream = new SequentialFile(partial))
            {
                isOurs = true; // another process that writes the same file would have it locked
                WriteFrom(stream, progressPath, inputs, progress, betweenCheckpoints ?? TimeSpan.FromSeconds(10), cancellation);
            }
            check(partial);
            File.Move(partial, path, overwrite: true);
            File.Delete(progressPath);
        }
        catch (Exception e)
        {
            if (isOurs)
            {
                File.Delete(partial);
                File.Delete(progressPath);
            }
            // The last is .NET's word for a file larger than its file system, or a limit, allows.
            if (e is IOException or UnauthorizedAccessException or ArgumentOutOfRangeException { ParamName: "value" })
                throw new InputException(path, $"cannot be written ({e.Message})", e);
            throw;
        }
    }

    private void WriteFrom(SequentialFile stream, string progressPath, string? inputs, Action<long, long>? progress, TimeSpan betweenCheckpoints,
        CancellationToken cancellation)
    {
        using var header = new MemoryStream();
        WriteHeader(header);
        long total = header.Length + _tensors.Sum(tensor => Aligned(tensor.Bytes)), position = header.Length;
        string? fingerprint = inputs is null
            ? null
            : Convert.ToHexStringLower(SHA256.HashData([.. header.ToArray(), .. Encoding.UTF8.GetBytes(inputs)]));
        long done = fingerprint is null ? 0 : ReadProgress(progressPath, fingerprint);
        if (done < header.Length || done > stream.Length)
            done = 0;
        stream.GoOnAt(done);
        RequireSpace(progressPath, total - done);
        if (done == 0)
            header.WriteTo(stream);
        progress?.Invoke(stream.Position, total);

        var sinceCheckpoint = Stopwatch.StartNew();
        foreach (var tensor in _tensors)
        {
            position += Aligned(tensor.Bytes);
            if (position <= done)
                continue;
            cancellation.ThrowIfCancellationRequested();
            WriteTensor(stream, tensor);
            progress?.Invoke(stream.Position, total);
            if (fingerprint is not null && sinceCheckpoint.Elapsed >= betweenCheckpoints)
            {
                stream.Flush();
                File.WriteAllText(progressPath, $"{fingerprint} {stream.Position}\n"); // torn, it matches no fingerprint or no length
                sinceCheckpoint.Restart();
            }
        }
        stream.Flush();
    }

    private static long ReadProgress(string path, string fingerprint)
    {
        if (!File.Exists(path))
            return 0;
        string[] words = File.ReadAllText(path).Split(' ');
        return words.Length == 2 && words[0] == fingerprint && words[1].EndsWith('\n') && long.TryParse(words[1], out long bytes) ? bytes : 0;
    }

    private static void RequireSpace(string path, long bytes)
    {
        long free = new DriveInfo(Path.GetDirectoryName(Path.GetFullPath(path))!).AvailableFreeSpace;
        if (free < bytes)
            throw new IOException($"{bytes / 1e9:0.0} GB are needed, the disk has {free / 1e9:0.0} GB free");
    }
}
