using System.Buffers.Binary;
using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Security.Cryptography;
using System.Text;
using Pcrl.Runtime.Studies;
using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Tests.Data;

public class PhantomTests
{
    private static readonly PhantomOptions Small = new() { ImageSize = 96 };

    [Fact]
    public void TheSameSeedGivesTheSameBits()
    {
        Phantom a = PhantomGenerator.Create(7, Small), b = PhantomGenerator.Create(7, Small);
        Assert.Equal(a.Findings, b.Findings);
        Assert.Equal(a.Masks.Organs, b.Masks.Organs);
        Assert.Equal(a.Masks.Lesions, b.Masks.Lesions);
        for (int k = 0; k < a.Study.Slices.Count; k++) Assert.Equal(a.Study.Slices[k].Pixels.ToArray(), b.Study.Slices[k].Pixels.ToArray());
        Assert.NotEqual(a.Study.Slices[12].Pixels.ToArray(), PhantomGenerator.Create(8, Small).Study.Slices[12].Pixels.ToArray());
    }

    /// <summary>
    /// The same bits on every machine: whoever changes the generator on purpose writes the new value here, and knows that models trained before
    /// can't be made again from their seeds.
    /// </summary>
    [Fact]
    public void EveryMachineMakesTheseBits()
    {
        using var hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        for (ulong seed = 1; seed <= 4; seed++)
        {
            Phantom phantom = PhantomGenerator.Create(seed, new PhantomOptions { ImageSize = 49 });
            foreach (StudySlice slice in phantom.Study.Slices) hash.AppendData(MemoryMarshal.AsBytes(slice.Pixels.ToArray().AsSpan()));
            hash.AppendData(phantom.Masks.Organs);
            hash.AppendData(phantom.Masks.Lesions);
            hash.AppendData(Encoding.UTF8.GetBytes(phantom.Findings));
        }
        Assert.Equal("BCECDB7B1A63A3F7", System.Convert.ToHexString(hash.GetHashAndReset())[..16]);
    }

    [Fact]
    public void ManyThreadsGiveWhatOneGives()
    {
        var options = new PhantomOptions { ImageSize = 48 };
        float[][] alone = [.. Enumerable.Range(0, 12).Select(i => PhantomGenerator.Create((ulong)i, options).Study.Slices[14].Pixels.ToArray())];
        var together = new float[12][];
        Parallel.For(0, 12, new ParallelOptions { MaxDegreeOfParallelism = 4 }, i => together[i] = PhantomGenerator.Create((ulong)i, options).Study.Slices[14].Pixels.ToArray());
        for (int i = 0; i < 12; i++) Assert.Equal(alone[i], together[i]);
    }

    [Fact]
    public void StudiesAreWellFormed()
    {
        for (ulong seed = 0; seed < 30; seed++)
        {
            Phantom phantom = PhantomGenerator.Create(seed, new PhantomOptions { ImageSize = 48 });
            Study study = phantom.Study;
            Assert.Equal("phantom", study.Format);
            Assert.Equal(PixelUnit.Hounsfield, study.Unit);
            Assert.InRange(study.Slices.Count, 26, 36);
            Assert.Equal(study.Slices.Count, phantom.Truth.LayerOfSlice.Count);
            Assert.True(study.Slices.Zip(study.Slices.Skip(1)).All(p => p.Second.Position > p.First.Position), "caudal to cranial");
            // Every layer of the brain has slices, in rising order, with something below and above the brain.
            int[] layers = [.. phantom.Truth.LayerOfSlice.Where(l => l >= 0)];
            Assert.Equal(Enumerable.Range(0, 8), layers.Distinct());
            Assert.Equal(-1, phantom.Truth.LayerOfSlice[0]);
            foreach (StudySlice slice in study.Slices)
                Assert.All(slice.Pixels.ToArray(), p => Assert.InRange(p, -1024, 3071));
        }
    }

    [Fact]
    public void TissuesHaveTheirDensity()
    {
        for (ulong seed = 0; seed < 6; seed++)
        {
            Phantom phantom = PhantomGenerator.Create(seed, new PhantomOptions { ImageSize = 128 });
            Assert.InRange(Median(phantom, PhantomOrgan.Outside), -1010, -900);
            Assert.InRange(Median(phantom, PhantomOrgan.Bone), 500, 1500);
            Assert.InRange(Median(phantom, PhantomOrgan.Thalamus), 30, 45);
            Assert.InRange(Median(phantom, PhantomOrgan.Cerebellum), 26, 42);
            Assert.InRange(Median(phantom, PhantomOrgan.Frontal), 24, 42);
            if (phantom.Truth.Facts.Lesions.All(l => l.Kind != LesionKind.Intraventricular))
                Assert.InRange(Median(phantom, PhantomOrgan.LateralVentricle), 0, 20);
            Assert.True(Median(phantom, PhantomOrgan.Thalamus) > Median(phantom, PhantomOrgan.LateralVentricle) + 10);
        }
    }

    [Fact]
    public void LesionsLieInsideTheHeadOnTheirSideWithTheirDensity()
    {
        int left = 0, right = 0;
        for (ulong seed = 0; seed < 40; seed++)
        {
            Phantom phantom = PhantomGenerator.Create(seed, Small);
            int size = Small.ImageSize;
            float[] pixels = AllPixels(phantom);
            for (int l = 0; l < phantom.Truth.Lesions.Count; l++)
            {
                PhantomLesion lesion = phantom.Truth.Lesions[l];
                double column = 0, count = 0, density = 0;
                for (int i = 0; i < phantom.Masks.Lesions.Length; i++)
                {
                    if (phantom.Masks.Lesions[i] != l + 1) continue;
                    Assert.NotEqual((byte)PhantomOrgan.Outside, phantom.Masks.Organs[i]);
                    Assert.NotEqual((byte)PhantomOrgan.SoftTissue, phantom.Masks.Organs[i]);
                    column += i % size - (size - 1) / 2.0;
                    density += pixels[i];
                    count++;
                }
                Assert.True(count > 0, "a stated lesion is visible");
                column *= phantom.Study.Slices[0].PixelSpacingX / count;
                density /= count;
                // The patient's left is on the right of the picture; the head may be a few millimetres off centre.
                if (lesion.Fact.Side == Side.Left) Assert.True(column > (lesion.Fact.Region == BrainRegion.Thalamus ? -6 : 0), $"seed {seed}: {lesion} at {column} mm");
                if (lesion.Fact.Side == Side.Right) Assert.True(column < (lesion.Fact.Region == BrainRegion.Thalamus ? 6 : 0), $"seed {seed}: {lesion} at {column} mm");
                left += lesion.Fact.Side == Side.Left ? 1 : 0;
                right += lesion.Fact.Side == Side.Right ? 1 : 0;
                bool dark = lesion.Fact.Kind is LesionKind.Infarct or LesionKind.Softening;
                Assert.True(dark ? density < 27 : density > 38, $"seed {seed}: {lesion} has {density} HU");
            }
        }
        Assert.True(left > 8 && right > 8);
    }

    [Fact]
    public void EnlargedVentriclesShowInTheMasks()
    {
        double wide = 0, normal = 0, wideCount = 0, normalCount = 0;
        for (ulong seed = 0; seed < 40; seed++)
        {
            Phantom phantom = PhantomGenerator.Create(seed, new PhantomOptions { ImageSize = 48 });
            double size = phantom.Masks.Organs.Count(o => o == (byte)PhantomOrgan.LateralVentricle) * Math.Pow(phantom.Study.Slices[0].PixelSpacingX, 2);
            if (phantom.Truth.Facts.VentriclesEnlarged) (wide, wideCount) = (wide + size, wideCount + 1);
            else (normal, normalCount) = (normal + size, normalCount + 1);
        }
        Assert.True(wide / wideCount > 1.8 * normal / normalCount, $"{wide / wideCount:F0} against {normal / normalCount:F0}");
    }

    [Fact]
    public void MidlineStructuresMoveAwayFromTheLesion()
    {
        int seen = 0;
        double moved = 0;
        for (ulong seed = 0; seen < 6; seed++)
        {
            Phantom phantom = PhantomGenerator.Create(seed, new PhantomOptions { ImageSize = 64 });
            if (phantom.Truth.Facts.Midline == MidlineShift.None) continue;
            seen++;
            Side side = phantom.Truth.Lesions[0].Fact.Side;
            Assert.Equal(side == Side.Left ? MidlineShift.Right : MidlineShift.Left, phantom.Truth.Facts.Midline);
            Assert.True(phantom.Truth.ShiftMm >= 4);
            double skull = MeanColumn(phantom, PhantomOrgan.Bone), ventricles = MeanColumn(phantom, PhantomOrgan.LateralVentricle);
            moved += (ventricles - skull) * phantom.Study.Slices[0].PixelSpacingX * (side == Side.Left ? -1 : 1) / 6;
        }
        Assert.True(moved > 2, $"ventricles moved {moved:F1} mm on average");
    }

    [Fact]
    public void KindsRegionsAndSidesAreCovered()
    {
        var seen = new Dictionary<LesionFact, int>();
        int none = 0, n = 1500;
        for (ulong seed = 0; seed < (ulong)n; seed++)
        {
            PhantomPlan plan = PhantomPlan.Draw(seed, 0.5f);
            if (plan.Lesions.Count == 0) none++;
            foreach (PlannedLesion l in plan.Lesions) seen[l.Fact] = seen.GetValueOrDefault(l.Fact) + 1;
        }
        Assert.InRange(none / (double)n, 0.15, 0.25);
        foreach (LesionKind kind in Enum.GetValues<LesionKind>()) Assert.Contains(seen.Keys, f => f.Kind == kind);
        foreach (BrainRegion region in Enum.GetValues<BrainRegion>()) Assert.Contains(seen.Keys, f => f.Region == region);
        Assert.True(seen.Values.Max() < 0.12 * n, "no finding dominates");
    }

    [Fact]
    public void DifficultyWeakensContrast()
    {
        double easy = 0, subtle = 0;
        for (ulong seed = 0; seed < 300; seed++)
        {
            easy += PhantomPlan.Draw(seed, 0).Lesions.Where(l => l.Fact.Kind == LesionKind.Haemorrhage).Sum(l => l.Density * l.LongSide);
            subtle += PhantomPlan.Draw(seed, 1).Lesions.Where(l => l.Fact.Kind == LesionKind.Haemorrhage).Sum(l => l.Density * l.LongSide);
        }
        Assert.True(subtle < 0.8 * easy);
    }

    [Theory]
    [InlineData(31, 0.5f)]
    [InlineData(2000, 0.5f)]
    [InlineData(64, 1.5f)]
    [InlineData(64, float.NaN)]
    public void AbsurdOptionsAreRefused(int size, float difficulty) =>
        Assert.ThrowsAny<ArgumentException>(() => PhantomGenerator.Create(1, new PhantomOptions { ImageSize = size, Difficulty = difficulty }));

    [Fact]
    public void TheProductReadsANiftiPhantomAsItWas()
    {
        string folder = Directory.CreateTempSubdirectory().FullName;
        try
        {
            Phantom phantom = PhantomGenerator.Create(11, Small);
            string path = Path.Combine(folder, "phantom.nii.gz");
            PhantomFiles.WriteNifti(phantom, path);
            Study read = StudyReader.Read(path);
            Assert.Equal(PixelUnit.Hounsfield, read.Unit);
            Assert.Equal(phantom.Study.Slices.Count, read.Slices.Count);
            for (int k = 0; k < read.Slices.Count; k++)
            {
                StudySlice was = phantom.Study.Slices[k], now = read.Slices[k];
                Assert.Equal(was.PixelSpacingX, now.PixelSpacingX, 3);
                Assert.Equal(was.Position, now.Position, 2);
                Assert.All(was.Pixels.ToArray().Zip(now.Pixels.ToArray()), p => Assert.True(Math.Abs(p.First - p.Second) <= 0.51f));
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Fact]
    public void TheTwentyFourSlicesShowTheMainLesion()
    {
        for (ulong seed = 100; seed < 120; seed++)
        {
            Phantom phantom = PhantomGenerator.Create(seed, Small);
            SliceSelection selection = SliceSelector.Select(phantom.Study);
            int area = Small.ImageSize * Small.ImageSize;
            Assert.All(selection.Slices, s => Assert.True(phantom.Truth.LayerOfSlice[s.Slice] >= 0 || s.Layer is 0 or 7));
            if (phantom.Truth.Lesions.Count > 0)
                Assert.Contains(selection.Slices, s => phantom.Masks.Lesions.AsSpan(s.Slice * area, area).Count((byte)1) > 4);
        }
    }

    [Theory]
    [InlineData("p.nii")]
    [InlineData("p.nii.gz")]
    public void NiftiFilesSayWhereLeftIs(string name)
    {
        string folder = Directory.CreateTempSubdirectory().FullName;
        try
        {
            Phantom phantom = PhantomGenerator.Create(3, new PhantomOptions { ImageSize = 40 });
            string path = Path.Combine(folder, name);
            PhantomFiles.WriteNifti(phantom, path);
            byte[] bytes = File.ReadAllBytes(path);
            if (name.EndsWith(".gz"))
            {
                var plain = new MemoryStream();
                using var zip = new GZipStream(new MemoryStream(bytes), CompressionMode.Decompress);
                zip.CopyTo(plain);
                bytes = plain.ToArray();
            }
            int slices = phantom.Study.Slices.Count;
            Assert.Equal(352 + 2 * 40 * 40 * slices, bytes.Length);
            Assert.Equal(348, BinaryPrimitives.ReadInt32LittleEndian(bytes));
            Assert.Equal(slices, BinaryPrimitives.ReadInt16LittleEndian(bytes.AsSpan(46)));
            float Float(int at) => BinaryPrimitives.ReadSingleLittleEndian(bytes.AsSpan(at));
            // RAS: columns run to the left (x falls), rows backwards (y falls), slices upwards (z rises); qform and sform agree.
            Assert.Equal(-phantom.Study.Slices[0].PixelSpacingX, Float(280));
            Assert.Equal(-phantom.Study.Slices[0].PixelSpacingY, Float(300));
            Assert.True(Float(320) > 0);
            Assert.Equal((0f, 0f, 1f), (Float(256), Float(260), Float(264)));
            Assert.Equal((Float(268), Float(272), Float(276)), (Float(292), Float(308), Float(324)));
            int at = 10 * 1600 + 20 * 40 + 25;
            Assert.Equal(MathF.Round(phantom.Study.Slices[10].Pixels.ToArray()[20 * 40 + 25]), BinaryPrimitives.ReadInt16LittleEndian(bytes.AsSpan(352 + 2 * at)));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static double MeanColumn(Phantom phantom, PhantomOrgan organ)
    {
        int size = phantom.Study.Slices[0].Width;
        return Enumerable.Range(0, phantom.Masks.Organs.Length).Where(i => phantom.Masks.Organs[i] == (byte)organ).Average(i => i % size);
    }

    private static float[] AllPixels(Phantom phantom) => [.. phantom.Study.Slices.SelectMany(s => s.Pixels.ToArray())];

    private static double Median(Phantom phantom, PhantomOrgan organ)
    {
        float[] pixels = AllPixels(phantom);
        var values = new List<float>();
        for (int i = 0; i < phantom.Masks.Organs.Length; i++)
            if (phantom.Masks.Organs[i] == (byte)organ && phantom.Masks.Lesions[i] == 0) values.Add(pixels[i]);
        values.Sort();
        return values[values.Count / 2];
    }
}
