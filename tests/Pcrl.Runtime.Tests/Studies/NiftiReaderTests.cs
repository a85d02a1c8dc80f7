using System.Numerics;
using Pcrl.Runtime.Studies;

namespace Pcrl.Runtime.Tests.Studies;

public class NiftiReaderTests
{
    private static readonly int[][] Permutations = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

    private static Study Read(byte[] bytes, string name = "head.nii")
    {
        using var folder = new TemporaryFolder();
        folder.Write(name, bytes);
        return StudyReader.Read(folder.File(name));
    }

    private static string Refusal(byte[] bytes, string name = "head.nii")
    {
        string message = Assert.Throws<InputException>(() => Read(bytes, name)).Message;
        Assert.Contains(name, message);
        Assert.DoesNotContain('\n', message);
        return message;
    }

    [Fact]
    public void PlacesTooFarOffToTellSlicesApartAreRefused()
    {
        var volume = NiftiBuilder.World([0, 1, 2], [false, false, false]);
        volume.SForm![3] = new Vector3(0, 0, 1e18f);
        Assert.Contains("no sensible size or place", Refusal(volume.ToBytes()));
    }

    [Fact]
    public void GzipThatHoldsMoreThanTheVoxelsIsStillCheckedToItsEnd()
    {
        byte[] zipped = NiftiBuilder.Zip(NiftiBuilder.World([0, 1, 2], [false, false, false]).ToBytes(), new byte[10_000]);
        Assert.Equal(TestWorld.Slices, Read(zipped, "head.nii.gz").Slices.Count);
        zipped[^5] ^= 1; // the checksum, behind more data than the header tells of
        Assert.Contains("compression is damaged", Refusal(zipped, "head.nii.gz"));
    }

    [Fact]
    public void EveryOrderAndDirectionOfAxesIsShownAlike()
    {
        foreach (int[] axes in Permutations)
        {
            for (int f = 0; f < 8; f++)
            {
                bool[] flips = [(f & 1) != 0, (f & 2) != 0, (f & 4) != 0];
                var study = Read(NiftiBuilder.World(axes, flips).ToBytes());
                TestWorld.AssertShown(study);
                Assert.Equal(Enumerable.Range(0, TestWorld.Slices).Select(z => (float)z), study.Slices.Select(s => s.Position));
                bool downward = flips[Array.IndexOf(axes, 2)];
                Assert.Equal(downward ? "head.nii#13" : "head.nii#0", study.Slices[0].Source);
                Assert.Equal((0f, 1f, 1f, 1f), (study.GantryTilt, study.Slices[0].PixelSpacingX, study.Slices[0].PixelSpacingY, study.Slices[0].Thickness));
            }
        }
    }

    [Fact]
    public void SFormWinsOverQFormAndThatOverNeither()
    {
        // Stored to the left, posterior and cranial: from a right-anterior frame, half a turn about z.
        var world = NiftiBuilder.World([0, 1, 2], [false, false, false]);
        world.QForm = Quaternion.CreateFromAxisAngle(Vector3.UnitX, MathF.PI);
        TestWorld.AssertShown(Read(world.ToBytes()));
        world.SForm = null;
        world.QForm = new Quaternion(0, 0, 1, 0);
        TestWorld.AssertShown(Read(world.ToBytes()));

        // Half a turn about y leaves left, anterior, caudal; qfac −1 turns the third axis up again.
        world = NiftiBuilder.World([0, 1, 2], [false, true, false]);
        world.SForm = null;
        world.QForm = new Quaternion(0, 1, 0, 0);
        world.QFac = -1;
        world.Steps = new Vector3(0.5f, 0.75f, 2.5f);
        world.Offset = new Vector3(1, 2, 3);
        var study = Read(world.ToBytes());
        TestWorld.AssertShown(study);
        Assert.Equal((0.5f, 0.75f, 2.5f, 3f), (study.Slices[0].PixelSpacingX, study.Slices[0].PixelSpacingY, study.Slices[0].Thickness, study.Slices[0].Position));

        world = NiftiBuilder.World([0, 1, 2], [true, true, false]);
        world.SForm = null;
        TestWorld.AssertShown(Read(world.ToBytes()));
    }

    [Theory]
    [InlineData(2)]
    [InlineData(256)]
    [InlineData(4)]
    [InlineData(512)]
    [InlineData(8)]
    [InlineData(768)]
    [InlineData(16)]
    [InlineData(64)]
    public void EveryVoxelTypeInBothByteOrders(short type)
    {
        foreach (bool bigEndian in new[] { false, true })
        {
            bool signed = type is not (2 or 512 or 768);
            var builder = new NiftiBuilder { DataType = type, BigEndian = bigEndian, Voxel = (i, j, k) => (i + j + k) % 50 * (signed ? -1 : 1) };
            var slice = Read(builder.ToBytes()).Slices[3];
            Assert.Equal(Enumerable.Range(0, 360).Select(i => (float)builder.Voxel(19 - i % 20, 17 - i / 20, 3)), slice.Pixels.ToArray());
        }
    }

    [Fact]
    public void ValuesAreScaledAndKeptToWhatACtCanMean()
    {
        double[] values = [0, 100, -5000, double.NaN, double.PositiveInfinity];
        var builder = new NiftiBuilder { DataType = 64, Slope = 2, Intercept = -10, CalMin = 0, CalMax = 90, Voxel = (i, _, _) => values[(19 - i) % 5] };
        var study = Read(builder.ToBytes());
        Assert.Equal([-10, 190, -1024, -1024, 32767], study.Slices[0].Pixels.ToArray()[..5]);
        Assert.Equal((45f, 90f), study.SeriesWindow);
        builder.Slope = 0;
        Assert.Equal([0, 100, -1024, -1024, 32767], Read(builder.ToBytes()).Slices[0].Pixels.ToArray()[..5]);
    }

    [Fact]
    public void ATiltedStackKnowsItsTilt()
    {
        var world = NiftiBuilder.World([0, 1, 2], [false, false, false]);
        world.SForm![2] = new Vector3(0, MathF.Tan(float.DegreesToRadians(15)), 1) * 3; // sheared: the table moved along z of a tilted frame
        var study = Read(world.ToBytes());
        Assert.Equal(15, study.GantryTilt, 2);
        TestWorld.AssertShown(study);
        Assert.Equal(3, study.Slices[1].Position - study.Slices[0].Position, 3);
    }

    [Fact]
    public void AFolderWithOneVolume()
    {
        using var folder = new TemporaryFolder();
        folder.Write("head.nii.gz", NiftiBuilder.Zip(NiftiBuilder.World([0, 1, 2], [false, false, false]).ToBytes()));
        folder.Write("README.txt", "x"u8.ToArray());
        folder.Write("picture.png", TestPictures.Png(20, 18, _ => 7));
        var study = StudyReader.Read(folder.Path);
        TestWorld.AssertShown(study);
        Assert.Equal(["picture.png", "README.txt"], study.SetAside.Select(s => s.Source));
        Assert.Equal("head.nii.gz#0", study.Slices[0].Source);

        folder.Write("other.nii", [1]);
        Assert.Contains("2 NIfTI volumes", Assert.Throws<InputException>(() => StudyReader.Read(folder.Path)).Message);
    }

    public static TheoryData<string, string> Wrong() => new()
    {
        { "four", "more than one volume" }, { "nifti2", "NIfTI-2" }, { "magic", "no NIfTI-1" }, { "pair", "no NIfTI-1" }, { "type", "code 128" },
        { "rank", "three dimensions" }, { "negative", "no voxels" }, { "offset", "start of the voxels" }, { "flat", "sensible size" }, { "nan", "sensible size" },
        { "oblique", "no axial slices" }, { "degenerate", "no axial slices" }, { "few", "holds 3 usable" }, { "many", "at most 1000" }, { "large", "9000 × 18" },
        { "text", "truncated" },
    };

    [Theory]
    [MemberData(nameof(Wrong))]
    public void WrongVolumesAreRefused(string what, string problem)
    {
        var builder = NiftiBuilder.World([0, 1, 2], [false, false, false]);
        switch (what)
        {
            case "four": builder.Rank = 4; builder.Dim4To7[0] = 2; break;
            case "nifti2": builder.HeaderSize = 540; break;
            case "magic": builder.HeaderSize = 0x5A5A5A5A; break;
            case "pair": builder.Magic = "ni1\0"; break;
            case "type": builder.DataType = 128; break;
            case "rank": builder.Rank = 2; break;
            case "negative": builder.Sizes[2] = -5; break;
            case "offset": builder.DataOffset = float.NaN; break;
            case "flat": builder.SForm![2] = Vector3.Zero; break;
            case "nan": builder.SForm![2] = new Vector3(float.NaN); break;
            case "oblique": builder.SForm = [new Vector3(2, 2, -1) / 3, new Vector3(-1, 2, 2) / 3, new Vector3(2, -1, 2) / 3, Vector3.Zero]; break;
            case "degenerate": builder.SForm![1] = builder.SForm[0]; break;
            case "few": builder.Sizes[2] = 3; break;
            case "many": builder.Sizes = [16, 16, 1001]; break;
            case "large": builder.Sizes = [9000, 18, 14]; break;
        }
        byte[] bytes = what == "text" ? "just text"u8.ToArray() : builder.Header();
        Assert.Contains(problem, Refusal(bytes));
    }

    [Fact]
    public void SizesAreHeldAgainstTheFileBeforeMemoryIsTaken()
    {
        var huge = new NiftiBuilder { Sizes = [1024, 1024, 500] };
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Contains("truncated", Refusal(huge.Header()));
        Assert.Contains("truncated", Refusal(NiftiBuilder.Zip(huge.Header()), "head.nii.gz"));
        huge.Sizes = [8192, 8192, 1000];
        Assert.Contains("pixels", Refusal(huge.Header()));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 4 << 20);
    }

    [Fact]
    public void ABombIsRefusedAndCostsNoMemory()
    {
        byte[] zeros = new byte[200 << 20];
        byte[] bomb = NiftiBuilder.Zip(NiftiBuilder.World([0, 1, 2], [false, false, false]).ToBytes(), zeros);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Assert.Contains("far more than the voxels", Refusal(bomb, "head.nii.gz"));
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 8 << 20);
    }

    [Fact]
    public void TruncatedOrDamagedVolumesAreRefused()
    {
        byte[] plain = NiftiBuilder.World([0, 1, 2], [false, false, false]).ToBytes(), zipped = NiftiBuilder.Zip(plain);
        foreach (int percent in new[] { 0, 1, 30, 60, 99 })
        {
            Refusal(plain[..(plain.Length * percent / 100)]);
            Refusal(zipped[..(zipped.Length * percent / 100)], "head.nii.gz");
        }
        zipped[^6] ^= 0xFF; // the checksum
        Assert.Contains("damaged", Refusal(zipped, "head.nii.gz"));
    }

    [Theory]
    [InlineData("head.nii")]
    [InlineData("head.nii.gz")]
    public void NothingButInputExceptionsEscape(string name)
    {
        using var folder = new TemporaryFolder();
        byte[] bytes = NiftiBuilder.World([0, 1, 2], [false, false, false]).ToBytes();
        folder.Write(name, name.EndsWith("gz") ? NiftiBuilder.Zip(bytes) : bytes);
        Hostile.Maul(folder.File(name), folder.File(name), seed: 2, flips: 800, cuts: 150, headerBytes: 352);
    }
}
