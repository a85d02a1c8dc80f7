namespace Pcrl.Runtime.Tests;

/// <summary>A folder of a test's own, deleted with everything in it.</summary>
internal sealed class TemporaryFolder : IDisposable
{
    public string Path { get; } = Directory.CreateTempSubdirectory("pcrl-test-").FullName;

    public string File(string name) => System.IO.Path.Combine(Path, name);

    /// <summary>Writes a file, and the folders it lies in.</summary>
    public void Write(string name, byte[] bytes)
    {
        Directory.CreateDirectory(System.IO.Path.GetDirectoryName(File(name))!);
        System.IO.File.WriteAllBytes(File(name), bytes);
    }

    public void Dispose() => Directory.Delete(Path, recursive: true);
}
