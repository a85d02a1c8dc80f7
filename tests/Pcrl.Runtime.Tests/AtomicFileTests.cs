namespace Pcrl.Runtime.Tests;

public class AtomicFileTests
{
    private static string Refusal(string path)
    {
        string message = Assert.Throws<InputException>(() => AtomicFile.CheckTarget(path)).Message;
        Assert.Equal(message, Assert.Throws<InputException>(() => AtomicFile.Write(path, _ => Assert.Fail("written"))).Message);
        return message;
    }

    [Fact]
    public void ATargetThatIsNoFileIsRefused()
    {
        using var folder = new TemporaryFolder();
        Assert.Contains("empty", Refusal(""));
        Assert.Contains("is a folder", Refusal(folder.Path));
        Assert.Contains("is a folder", Refusal(folder.File("new/")));
        Assert.Contains("does not exist", Refusal(folder.File("none/report.txt")));
        File.CreateSymbolicLink(folder.File("loop"), folder.File("loop"));
        Assert.Contains("loop", Refusal(folder.File("loop")));
    }

    [Theory]
    [InlineData("脑沟正常。")]
    [InlineData("脑沟正常。\n")]
    public void ATextEndsWithOneLineBreak(string text)
    {
        using var folder = new TemporaryFolder();
        AtomicFile.WriteText(folder.File("text"), text);
        Assert.Equal("脑沟正常。\n"u8.ToArray(), File.ReadAllBytes(folder.File("text")));
    }

    [Fact]
    public void ADeviceIsNeverReplaced()
    {
        using var folder = new TemporaryFolder();
        File.CreateSymbolicLink(folder.File("sink"), "/dev/null");
        // Only the check: without it, writing would replace the device of the machine that runs the tests.
        Assert.Contains("device", Assert.Throws<InputException>(() => AtomicFile.CheckTarget("/dev/full")).Message);
        Assert.Contains("device", Assert.Throws<InputException>(() => AtomicFile.CheckTarget(folder.File("sink"))).Message);
    }

    [Fact]
    public void APipeIsNeverReplaced()
    {
        using var folder = new TemporaryFolder();
        string pipe = folder.File("pipe");
        using (var made = System.Diagnostics.Process.Start("mkfifo", [pipe]))
            made.WaitForExit();
        Assert.Contains("pipe, not a file", Refusal(pipe));
        folder.Write("empty", []);
        AtomicFile.CheckTarget(folder.File("empty"));
    }

    [Fact]
    public void AFileOfAnInputIsNeverReplaced()
    {
        using var folder = new TemporaryFolder();
        folder.Write("01.dcm", [1]);
        string slice = folder.File("01.dcm"), link = Path.Combine(Path.GetTempPath(), $"pcrl-link-{Environment.ProcessId}");
        File.CreateSymbolicLink(link, slice);
        try
        {
            foreach (string path in (string[])[slice, link])
                foreach (string input in (string[])[folder.Path, folder.Path + "/", slice])
                    Assert.Contains("input", Assert.Throws<InputException>(() => AtomicFile.CheckTarget(path, "elsewhere", input)).Message);
            File.Delete(link);
            File.CreateSymbolicLink(link, folder.Path); // the folder by another name
            Assert.Contains("input", Assert.Throws<InputException>(() => AtomicFile.CheckTarget(slice, link)).Message);
            Assert.Contains("input", Assert.Throws<InputException>(() => AtomicFile.CheckTarget(Path.Combine(link, "01.dcm"), folder.Path)).Message);
        }
        finally
        {
            File.Delete(link);
        }
        AtomicFile.CheckTarget(folder.File("report.txt"), folder.Path); // a new file beside them
        AtomicFile.CheckTarget(slice, folder.Path + "-other");
    }

    [Fact]
    public void ALinkIsKeptAndItsFileReplaced()
    {
        using var folder = new TemporaryFolder();
        folder.Write("report.txt", [1]);
        File.CreateSymbolicLink(folder.File("link"), folder.File("report.txt"));
        AtomicFile.Write(folder.File("link"), stream => stream.Write([2, 3]));
        Assert.NotNull(new FileInfo(folder.File("link")).LinkTarget);
        Assert.Equal([2, 3], File.ReadAllBytes(folder.File("report.txt")));
        Assert.Equal(2, Directory.GetFiles(folder.Path).Length); // and no temporary file
    }
}
