namespace Pcrl.Runtime;

/// <summary>Recognises files without reading them, for work that is gone on with only where its inputs are the same.</summary>
public static class FileStamp
{
    /// <summary>Name, size and time of each file, links followed: a line per file, in an order of their own.</summary>
    public static string Of(IEnumerable<string> files) => string.Join('\n', files.Select(Path.GetFullPath).Order(StringComparer.Ordinal).Select(One));

    private static string One(string file)
    {
        try
        {
            return RegularFile.Find(file) is { } found ? $"{file}|{found.Length}|{found.LastWriteTimeUtc.Ticks}" : $"{file}|";
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return $"{file}|"; // whoever reads it will tell
        }
    }
}
