using Pcrl.Runtime.Studies;

namespace Pcrl.Runtime.Tests.Studies;

/// <summary>The choice of slices on real scans: those in samples/ always, those in the folder that PCRL_DATA names where it is set.</summary>
public class SliceSelectorRealDataTests
{
    private static string Sample(string name)
    {
        var folder = new DirectoryInfo(AppContext.BaseDirectory);
        while (folder is not null && !File.Exists(Path.Combine(folder.FullName, "Pcrl.sln")))
            folder = folder.Parent;
        return Path.Combine(folder!.FullName, "samples", name);
    }

    /// <summary>Ranges read off the contact sheets by eye: from the petrous bones to the last gyri.</summary>
    [Theory]
    [InlineData("ge-head-ct", "06 07 08", "25 26")]
    [InlineData("ct-ich-050", "07 08 09", "25 26")]
    [InlineData("ct-ich-122", "07 08 09", "27 28")]
    public void SamplesAreCoveredFromBaseToVertex(string sample, string lowest, string highest)
    {
        var study = StudyReader.Read(Sample(sample));
        Assert.Empty(study.Notes);
        var chosen = SliceSelector.Select(study).Slices;
        Assert.Contains(Path.GetFileNameWithoutExtension(chosen[0].Source), lowest.Split(' '));
        Assert.Contains(Path.GetFileNameWithoutExtension(chosen[^1].Source), highest.Split(' '));
        // All have fewer than 24 slices of brain: none may be dropped.
        Assert.Equal(chosen[^1].Slice - chosen[0].Slice + 1, chosen.Select(c => c.Slice).Distinct().Count());
    }

    [Fact]
    public void APictureFolderStoredFromTheVertexDownIsTurnedRound()
    {
        using var folder = new TemporaryFolder();
        string[] files = [.. Directory.GetFiles(Sample("ct-ich-122")).Order()];
        for (int i = 0; i < files.Length; i++)
            folder.Write($"{files.Length - i:00}.jpg", File.ReadAllBytes(files[i]));
        var study = StudyReader.Read(folder.Path);
        Assert.Single(study.Notes);
        Assert.Equal($"{files.Length:00}.jpg", study.Slices[0].Source);
    }

    [SkippableFact]
    public void EveryPublicScan()
    {
        string? root = Environment.GetEnvironmentVariable("PCRL_DATA");
        Skip.If(string.IsNullOrEmpty(root), "PCRL_DATA names no folder");
        string[] scans = [.. Directory.GetDirectories(Path.Combine(root!, "ct-ich")), Path.Combine(root!, "ct-template"), Path.Combine(root!, "ge-head-ct-dicom")];
        Assert.Equal(60, scans.Length);
        foreach (string scan in scans)
        {
            var study = StudyReader.Read(scan);
            Assert.Empty(study.Notes); // CT-ICH runs from caudal to cranial
            var selection = SliceSelector.Select(study);
            Assert.Equal(24, selection.Slices.Count);
            Assert.InRange(selection.Slices[0].Slice, 0, study.Slices.Count / 2);
            Assert.InRange(selection.Slices[^1].Slice, study.Slices.Count * 3 / 4, study.Slices.Count - 1);
            float[] images = SliceImages.Prepare(study, selection, 32, WindowChoice.Brain);
            Assert.All(images, v => Assert.InRange(v, 0, 1));
            if (study.Unit == PixelUnit.Windowed)
                Assert.Single(SliceOrder.CaudalFirst(study with { Slices = [.. study.Slices.Reverse()] }).Notes);
        }
    }
}
