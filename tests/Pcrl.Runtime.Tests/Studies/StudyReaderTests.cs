using System.Diagnostics;
using Pcrl.Runtime.Studies;

namespace Pcrl.Runtime.Tests.Studies;

public class StudyReaderTests
{
    private static string Refusal(string path) => Assert.Throws<InputException>(() => StudyReader.Read(path)).Message;

    [Fact]
    public void NothingToRead()
    {
        using var folder = new TemporaryFolder();
        Assert.Contains("holds 0 usable", Refusal(folder.Path));
        Assert.Contains("no such file or folder", Refusal(folder.File("missing")));
        folder.Write("a.dcm", "text renamed"u8.ToArray());
        Assert.Contains("named .dcm, but no DICOM", Refusal(folder.Path));
        Assert.Contains("a study is a folder", Refusal(folder.File("a.dcm")));
        folder.Write("a.dcm", []);
        Assert.Contains("an empty file", Refusal(folder.Path));
        folder.Write("b.nii", []);
        Assert.Contains("truncated", Refusal(folder.File("b.nii")));
    }

    [Fact]
    public void LinksInACircleAndPipesDoNotHang()
    {
        using var folder = new TemporaryFolder();
        DicomBuilder.SaveWorld(folder);
        File.CreateSymbolicLink(folder.File("loop.dcm"), folder.File("loop.dcm"));
        File.CreateSymbolicLink(folder.File("broken.dcm"), folder.File("nowhere"));
        Directory.CreateSymbolicLink(folder.File("again"), folder.Path);
        Directory.CreateSymbolicLink(folder.File("self"), folder.File("self"));
        if (OperatingSystem.IsLinux())
        {
            using var pipe = Process.Start("mkfifo", folder.File("pipe.dcm"));
            pipe.WaitForExit();
            File.CreateSymbolicLink(folder.File("to-pipe.dcm"), folder.File("pipe.dcm"));
        }
        var study = StudyReader.Read(folder.Path);
        TestWorld.AssertShown(study); // the second way to each file is a double of the first
        Assert.Equal("1.dcm", study.Slices[0].Source);
    }

    [Fact]
    public void CancellationIsHonoured()
    {
        using var folder = new TemporaryFolder();
        DicomBuilder.SaveWorld(folder);
        Assert.ThrowsAny<OperationCanceledException>(() => StudyReader.Read(folder.Path, new CancellationToken(canceled: true)));
        folder.Write("head.nii", NiftiBuilder.World([0, 1, 2], [false, false, false]).ToBytes());
        Assert.ThrowsAny<OperationCanceledException>(() => StudyReader.Read(folder.File("head.nii"), new CancellationToken(canceled: true)));
    }

    [Fact]
    public void NamesAreOrderedNaturally()
    {
        string[] expected = ["02", "2", "IM2", "im10", "IM10b", "x1y9", "x1y10", "x2y1", "x99999999999999999999999", "x100000000000000000000000"];
        string[] names = [.. expected];
        new Random(1).Shuffle(names);
        Array.Sort(names, NaturalOrder.Compare);
        Assert.Equal(expected, names);
    }
}
