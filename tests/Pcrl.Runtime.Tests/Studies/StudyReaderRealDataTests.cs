using Pcrl.Runtime.Studies;
using Xunit;

namespace Pcrl.Runtime.Tests.Studies;

/// <summary>The public scans in the folder that PCRL_DATA names; skipped without it.</summary>
public class StudyReaderRealDataTests
{
    private static string Data(string name)
    {
        string? root = Environment.GetEnvironmentVariable("PCRL_DATA");
        Skip.If(string.IsNullOrEmpty(root), "PCRL_DATA names no folder");
        return Path.Combine(root!, name);
    }

    [SkippableFact]
    public void GeSeries()
    {
        var study = StudyReader.Read(Data("ge-head-ct-dicom"));
        Assert.Equal(("dicom", PixelUnit.Hounsfield, 28), (study.Format, study.Unit, study.Slices.Count));
        Assert.Equal(18.5f, study.GantryTilt);
        Assert.Equal((35f, 85f), study.SeriesWindow);
        Assert.Equal(["LICENSE", "SOURCE.txt"], study.SetAside.Select(s => s.Source));
        Assert.Equal(Enumerable.Range(1, 28).Select(i => $"{i:00}.dcm"), study.Slices.Select(s => s.Source));
        Assert.Equal(Enumerable.Repeat(4f, 14).Concat(Enumerable.Repeat(7f, 14)), study.Slices.Select(s => s.Thickness));
        Assert.All(study.Slices, s => Assert.Equal((512, 512, 0.4882812f, 0.4882812f), (s.Width, s.Height, s.PixelSpacingX, s.PixelSpacingY)));
        Assert.All(study.Slices, s => Assert.InRange(s.Pixels.ToArray().Min(), -1024, -900));
        Assert.All(study.Slices.Zip(study.Slices.Skip(1)), p => Assert.True(p.First.Position < p.Second.Position));
        // 4.22 mm of the table's way are 4.0 mm between tilted planes.
        Assert.Equal(4.0, study.Slices[1].Position - study.Slices[0].Position, 2);

        // The old infarct is left temporo-occipital, so on the right of the picture: darker there than at the mirrored place.
        float Mean(int x0)
        {
            var pixels = study.Slices[16].Pixels.ToArray();
            return Enumerable.Range(0, 40 * 40).Average(i => pixels[(325 + i / 40) * 512 + x0 + i % 40]);
        }
        Assert.True(Mean(290) < Mean(182) - 5, $"{Mean(290)} against {Mean(182)}");
    }

    [SkippableFact]
    public void Template()
    {
        var study = StudyReader.Read(Data("ct-template"));
        Assert.Equal(("nifti", 181), (study.Format, study.Slices.Count));
        Assert.Equal((181, 217), (study.Slices[0].Width, study.Slices[0].Height));
        Assert.Equal((-71f, 109f), (study.Slices[0].Position, study.Slices[180].Position));
        Assert.Equal("scct_unsmooth_SS_0.01.nii.gz#0", study.Slices[0].Source);
    }

    [SkippableFact]
    public void EveryCtIchScan()
    {
        string[] scans = Directory.GetDirectories(Data("ct-ich"));
        Assert.Equal(58, scans.Length);
        foreach (string scan in scans)
        {
            var study = StudyReader.Read(scan);
            Assert.Equal(("images", PixelUnit.Windowed), (study.Format, study.Unit));
            Assert.Equal(Directory.GetFiles(scan).Length, study.Slices.Count);
            Assert.Empty(study.SetAside);
            Assert.All(study.Slices, s => Assert.Equal((650, 650), (s.Width, s.Height)));
        }
    }
}
