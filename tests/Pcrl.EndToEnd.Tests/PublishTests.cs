using System.Diagnostics;

namespace Pcrl.EndToEnd.Tests;

/// <summary>What README tells deployers to make of <c>pcrl</c>: a folder with all it needs but .NET.</summary>
public sealed class PublishTests : IDisposable
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(10); // it compiles everything anew, beside the other tests

    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-publish-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void A_published_folder_writes_reports_and_is_compiled_beforehand()
    {
        string to = Path.Combine(_folder, "pcrl");
        // Artifacts of its own: nothing that other tests build or run is touched.
        using var publish = Process.Start(new ProcessStartInfo(
            "dotnet", ["publish", Path.Combine(Repository.Root, "tools", "pcrl"), "-r", "linux-x64", "--artifacts-path", Path.Combine(_folder, "artifacts"), "-o", to, "--disable-build-servers"])
        { RedirectStandardOutput = true, RedirectStandardError = true })!;
        var built = PcrlProcess.Finish(publish, Patience);
        Assert.True(built.ExitCode == 0, built.Output + built.Error);

        using var process = Process.Start(new ProcessStartInfo(Path.Combine(to, "pcrl"), ["report", Repository.Sample("ct-ich-050")])
        { WorkingDirectory = _folder, RedirectStandardOutput = true, RedirectStandardError = true })!;
        var report = PcrlProcess.Finish(process);
        Assert.True(report.ExitCode == 0, report.Error);
        Assert.Equal(PcrlProcess.Run("report", Repository.Sample("ct-ich-050")).Output, report.Output);
        Assert.All(["LICENSE", "NOTICE"], name => Assert.True(File.Exists(Path.Combine(to, name)), name));
        // Machine code beside the portable one.
        Assert.True(new FileInfo(Path.Combine(to, "Pcrl.Runtime.dll")).Length > 1.5 * new FileInfo(PcrlProcess.PathOf("Pcrl.Runtime")).Length);
    }
}
