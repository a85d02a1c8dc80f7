namespace Pcrl.Runtime;

/// <summary>Folders that something is to be written into.</summary>
public static class OutputFolder
{
    /// <summary>Makes a folder where it is missing.</summary>
    /// <param name="folder">As the user named it.</param>
    /// <param name="inside">A folder in it that is wanted too.</param>
    /// <exception cref="InputException">It cannot be made.</exception>
    public static void Make(string folder, string inside = "")
    {
        try
        {
            Directory.CreateDirectory(Path.Combine(folder, inside));
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InputException(folder, $"cannot be made ({e.Message})", e);
        }
    }
}
