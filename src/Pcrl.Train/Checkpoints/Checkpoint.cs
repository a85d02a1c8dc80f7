using System.Buffers.Binary;
using Pcrl.Runtime;

namespace Pcrl.Train.Checkpoints;

/// <summary>Opens weights in any of the formats users bring.</summary>
public static class Checkpoint
{
    private const string IndexSuffix = ".safetensors.index.json";

    /// <summary>
    /// Opens a <c>.safetensors</c> file, a sharded one by its <c>*.safetensors.index.json</c>, a PyTorch <c>.pth</c>/<c>.pt</c>/<c>.bin</c>
    /// file, or a folder that holds exactly one of these. The content decides, not the file's name.
    /// </summary>
    /// <exception cref="InputException">Missing, broken, or of another format.</exception>
    public static ITensorSource Open(string path)
    {
        if (Directory.Exists(path))
            path = Inside(path);
        if (path.EndsWith(IndexSuffix, StringComparison.OrdinalIgnoreCase))
            return ShardedSafetensors.Open(path);
        Span<byte> start = stackalloc byte[9];
        int read = ReadStart(path, start);
        // A safetensors file begins with the length of a JSON object. It is asked for first: a length of 640 begins with the bytes of a pickle.
        if (read == 9 && start[8] == '{' && BinaryPrimitives.ReadInt64LittleEndian(start) is > 0 and < 1L << 40)
            return SafetensorsFile.Open(path);
        if (TorchFile.Recognises(start[..read]))
            return TorchFile.Open(path);
        throw new InputException(path, "is neither a safetensors file nor a PyTorch checkpoint");
    }

    private static int ReadStart(string path, Span<byte> start)
    {
        try
        {
            using var stream = File.OpenRead(path);
            return stream.ReadAtLeast(start, start.Length, throwOnEndOfStream: false);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException)
        {
            throw InputException.Unreadable(path, e);
        }
    }

    private static string Inside(string folder)
    {
        string[] files = Directory.GetFiles(folder);
        foreach (string suffix in new[] { IndexSuffix, ".safetensors", ".bin", ".pth", ".pt" })
        {
            string[] found = [.. files.Where(f => f.EndsWith(suffix, StringComparison.OrdinalIgnoreCase))];
            if (found.Length == 1)
                return found[0];
            if (found.Length > 1)
                throw new InputException(folder, $"holds {found.Length} files *{suffix}; name the one that is meant");
        }
        throw new InputException(folder, "holds no weights (.safetensors, .bin, .pth, .pt)");
    }
}
