namespace Pcrl.EndToEnd.Tests;

/// <summary>Finds what the repository ships.</summary>
internal static class Repository
{
    /// <summary>Folder of <c>Pcrl.sln</c>.</summary>
    public static string Root { get; } = FindRoot();

    public static string Sample(string name) => Path.Combine(Root, "samples", name);

    public static string MiniBundle => Path.Combine(Root, "models", "mini");

    private static string FindRoot()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "Pcrl.sln")))
            folder = Path.GetDirectoryName(folder);
        return folder ?? throw new InvalidOperationException("the tests do not run inside the repository");
    }
}
