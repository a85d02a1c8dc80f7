using Pcrl.Runtime.Reports;

namespace Pcrl.Runtime.Tests.Reports;

public sealed class UnfinishedReportsTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();
    private readonly string[] _studies;

    public UnfinishedReportsTests()
    {
        foreach (string name in (string[])["a", "b", "c"])
            _folder.Write(name, [1]);
        _studies = [_folder.File("a"), _folder.File("b"), _folder.File("c")];
    }

    private string Kept => _folder.File("out.partial");

    public void Dispose() => _folder.Dispose();

    private UnfinishedReports Open(string run = "run") => new(_folder.File("out"), run, _studies);

    private void Interrupt(params int[] finished)
    {
        using var unfinished = Open();
        foreach (int i in finished)
            unfinished.Add(_studies[i], $"脑沟正常。\n{i}");
    }

    [Fact]
    public void ARunGoesOnBehindWhatIsFinished()
    {
        Interrupt(1);
        Interrupt(0);
        using (var unfinished = Open())
        {
            Assert.Equal(2, unfinished.Count);
            Assert.Equal([_studies[2]], unfinished.Left);
            unfinished.Add(_studies[2], "2");
            Assert.Equal(["脑沟正常。\n0", "脑沟正常。\n1", "2"], unfinished.Texts); // in the studies' order
            unfinished.Finish();
        }
        Assert.False(File.Exists(Kept));
    }

    [Fact]
    public void NothingFinishedLeavesNothing()
    {
        Interrupt();
        Assert.False(File.Exists(Kept));
    }

    /// <summary>Cut anywhere, or with any byte flipped: what is kept is what was kept, and the rest can be written again; or it is refused as it lies.</summary>
    [Fact]
    public void ADamagedFileNeverGivesAnotherReport()
    {
        Interrupt(0, 1, 2);
        byte[] good = File.ReadAllBytes(Kept);
        int head = Array.IndexOf(good, (byte)'\n') + 1;
        var random = new Random(1);
        for (int i = 0; i < 2 * good.Length; i++)
        {
            byte[] bad = i < good.Length ? good[..i] : [.. good];
            if (i >= good.Length)
                bad[i - good.Length] ^= (byte)(1 << random.Next(8));
            File.WriteAllBytes(Kept, bad);
            if (i >= good.Length && i - good.Length < head)
            {
                Assert.Throws<InputException>(() => Open());
                Assert.Equal(bad, File.ReadAllBytes(Kept));
                continue;
            }
            using (var unfinished = Open())
            {
                foreach (string study in unfinished.Left)
                    unfinished.Add(study, $"脑沟正常。\n{Array.IndexOf(_studies, study)}");
            }
            using (var unfinished = Open())
                Assert.Equal(["脑沟正常。\n0", "脑沟正常。\n1", "脑沟正常。\n2"], unfinished.Texts);
        }
    }

    [Fact]
    public void AStudyThatHasChangedIsReadAnew()
    {
        Interrupt(0, 1);
        File.SetLastWriteTimeUtc(_studies[0], DateTime.UtcNow.AddHours(1));
        using var unfinished = Open();
        Assert.Equal([_studies[0], _studies[2]], unfinished.Left);
    }

    /// <summary>A slice written over, of the same size, in a folder or in a series' folder below: the folders' own times stay.</summary>
    [Theory]
    [InlineData("study", "1.png", false)]
    [InlineData("study/series", "1.dcm", false)]
    [InlineData("study", "1.png", true)]
    public void AStudyWhoseSliceHasChangedIsReadAnew(string folder, string slice, bool linked)
    {
        string study = _folder.File("study"), below = _folder.File(folder), file = Path.Combine(below, slice);
        Directory.CreateDirectory(below);
        string written = linked ? _folder.File("elsewhere") : file;
        File.WriteAllBytes(written, [1]);
        if (linked)
            File.CreateSymbolicLink(file, written);
        File.CreateSymbolicLink(Path.Combine(study, "round"), Path.Combine(study, "round"));
        var (was, belowWas) = (Directory.GetLastWriteTimeUtc(study), Directory.GetLastWriteTimeUtc(below));
        using (var unfinished = OpenOne())
            unfinished.Add(study, "1");
        using (var unfinished = OpenOne())
            Assert.Empty(unfinished.Left);

        File.WriteAllBytes(written, [2]);
        File.SetLastWriteTimeUtc(written, DateTime.UtcNow.AddHours(1));
        Assert.Equal((was, belowWas), (Directory.GetLastWriteTimeUtc(study), Directory.GetLastWriteTimeUtc(below)));
        using (var unfinished = OpenOne())
            Assert.Equal([study], unfinished.Left);

        UnfinishedReports OpenOne() => new(_folder.File("out"), "run", [study]);
    }

    [Fact]
    public void AnotherRunIsRefusedAndLosesNothing()
    {
        Interrupt(0);
        byte[] before = File.ReadAllBytes(Kept);
        Assert.Contains("other options", Assert.Throws<InputException>(() => Open("rum")).Message);
        Assert.Contains("other options", Assert.Throws<InputException>(() => Open("a longer run")).Message);
        Assert.Equal(before, File.ReadAllBytes(Kept));
        using (Open())
            Assert.Contains("out.partial", Assert.Throws<InputException>(() => Open()).Message); // two at once
    }

    [Fact]
    public void WhatIsNoneOfOursIsLeftAlone()
    {
        foreach (byte[] foreign in (byte[][])["[]\n"u8.ToArray(), [0xFF, 0, 10], new byte[100_000]])
        {
            File.WriteAllBytes(Kept, foreign);
            Assert.Contains("out.partial", Assert.Throws<InputException>(() => Open()).Message);
            Assert.Equal(foreign, File.ReadAllBytes(Kept));
        }
        File.Delete(Kept);
        Directory.CreateDirectory(Kept);
        Assert.Contains("is a folder", Assert.Throws<InputException>(() => Open()).Message);
    }
}
