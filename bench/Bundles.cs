using System.CommandLine;

namespace Pcrl.Bench;

/// <summary>Where the repository's bundles are.</summary>
internal static class Bundles
{
    /// <summary>The folder of <c>Pcrl.sln</c> above the program, or the current folder.</summary>
    public static string Root { get; } = FindRoot();

    /// <summary>The option that names a bundle.</summary>
    /// <param name="name">Default, below <c>models</c>.</param>
    public static Option<string> Option(string name) => new("--bundle") { Description = "folder of the bundle", DefaultValueFactory = _ => Path.Combine(Root, "models", name) };

    private static string FindRoot()
    {
        for (var folder = new DirectoryInfo(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "Pcrl.sln")))
                return folder.FullName;
        }
        return ".";
    }
}
