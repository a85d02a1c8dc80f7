namespace Pcrl.Runtime;

/// <summary>
/// The one exception for whatever a user can mend: a broken file, a wrong option, a missing permission.
/// Tools print its message as one line and exit with a code other than 0; anything else that escapes is a defect of ours.
/// </summary>
public sealed class InputException : Exception
{
    /// <param name="source">The file, folder or option that is at fault, as the user named it.</param>
    /// <param name="problem">What is wrong with it, in one clause and without patient data.</param>
    /// <param name="inner">The cause, if another exception showed it.</param>
    public InputException(string source, string problem, Exception? inner = null)
        : base($"{source}: {problem}", inner)
    {
    }

    /// <summary>For a file that could not be read.</summary>
    /// <param name="path">The file.</param>
    /// <param name="cause">How the system refused it.</param>
    public static InputException Unreadable(string path, Exception cause) =>
        new(path, Directory.Exists(path) ? "is a folder, where a file is wanted"
            : cause is FileNotFoundException or DirectoryNotFoundException ? "there is no such file"
            : $"cannot be read ({cause.Message})", cause);

    /// <summary>Refuses paths under which there is nothing; null is no path.</summary>
    public static void ThrowIfMissing(params IEnumerable<string?> paths)
    {
        if (paths.FirstOrDefault(path => path is not null && !File.Exists(path) && !Directory.Exists(path)) is { } missing)
            throw new InputException(missing, "no such file or folder");
    }

    /// <summary>For a path where a folder was wanted and is none.</summary>
    public static InputException NoFolder(string path) => new(path, File.Exists(path) ? "is a file, where a folder is wanted" : "no such folder");
}
