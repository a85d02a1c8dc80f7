using System.Numerics;
using Pcrl.Runtime.Studies;

namespace Pcrl.Runtime.Tests.Studies;

public class DicomReaderTests
{
    private static Vector3 Axis(string name) => name[1] switch { 'x' => Vector3.UnitX, 'y' => Vector3.UnitY, _ => Vector3.UnitZ } * (name[0] == '-' ? -1 : 1);

    private static string Refusal(TemporaryFolder folder)
    {
        string message = Assert.Throws<InputException>(() => StudyReader.Read(folder.Path)).Message;
        Assert.DoesNotContain("secret", message, StringComparison.OrdinalIgnoreCase);
        Assert.DoesNotContain('\n', message);
        return message;
    }

    public static TheoryData<string, string, bool, bool> Planes()
    {
        var data = new TheoryData<string, string, bool, bool>();
        foreach (var (row, column) in new[] { ("+x", "+y"), ("-x", "+y"), ("+x", "-y"), ("-x", "-y"), ("+y", "+x"), ("-y", "+x"), ("+y", "-x"), ("-y", "-x") })
        {
            data.Add(row, column, row[0] == '+', column[0] == '-');
        }
        return data;
    }

    [Theory]
    [MemberData(nameof(Planes))]
    public void EveryOrientationIsShownAlike(string row, string column, bool reversed, bool isImplicit)
    {
        using var folder = new TemporaryFolder();
        for (int z = 0; z < TestWorld.Slices; z++)
        {
            var builder = DicomBuilder.World(z, Axis(row), Axis(column)).Numbers(0x00280030, row[1] == 'x' ? 0.5 : 0.4, row[1] == 'x' ? 0.4 : 0.5);
            builder.Syntax = isImplicit ? DicomBuilder.Implicit : DicomBuilder.Explicit;
            folder.Write($"{(reversed ? 99 - z : z)}", builder.ToBytes());
        }
        var study = StudyReader.Read(folder.Path);
        TestWorld.AssertShown(study);
        Assert.Equal(("dicom", PixelUnit.Hounsfield, 0f), (study.Format, study.Unit, study.GantryTilt));
        Assert.Equal((40f, 80f), study.SeriesWindow);
        Assert.Equal(Enumerable.Range(0, TestWorld.Slices).Select(z => (float)z), study.Slices.Select(s => s.Position));
        Assert.All(study.Slices, s => Assert.Equal((0.4f, 0.5f, 1f), (s.PixelSpacingX, s.PixelSpacingY, s.Thickness)));
    }

    [Fact]
    public void HalfAPixelSpacingIsNone()
    {
        using var folder = new TemporaryFolder();
        for (int z = 0; z < TestWorld.Slices; z++)
            folder.Write($"{z}", DicomBuilder.World(z, Axis("+x"), Axis("+y")).Text(0x00280030, "DS", @"none\0.5").ToBytes());
        Assert.All(StudyReader.Read(folder.Path).Slices, s => Assert.True(float.IsNaN(s.PixelSpacingX) && float.IsNaN(s.PixelSpacingY)));
    }

    [Theory]
    [InlineData(0, 16, 15, 16, 1, -1024, 1064, 40)] // unsigned, as most scanners write
    [InlineData(1, 16, 15, 16, 1, 0, unchecked((short)0xFFD8), -40)] // signed
    [InlineData(1, 12, 11, 16, 1, 0, 0x7FD8, -40)] // the sign is bit 11; bits above hold an overlay
    [InlineData(0, 12, 15, 16, 1, -1024, 1064 << 4, 40)] // value in the upper bits
    [InlineData(0, 16, 15, 16, 0.5, -1000, 2100, 50)]
    [InlineData(0, 16, 15, 16, 1, -3024, 0, -1024)] // corners of the field of view
    [InlineData(1, 16, 15, 16, 1, 0, -2000, -1024)]
    [InlineData(1, 16, 15, 16, 1, 0, 77, -1024)] // the padding value
    [InlineData(1, 16, 15, 16, 1e5, 0, 30000, 32767)]
    public void StoredValuesBecomeHounsfieldUnits(int signed, int bits, int high, int allocated, double slope, double intercept, short stored, float expected)
    {
        using var folder = new TemporaryFolder();
        DicomBuilder.SaveWorld(folder, (_, b) => b.Short(0x00280103, signed).Short(0x00280101, bits).Short(0x00280102, high).Short(0x00280100, allocated)
            .Numbers(0x00281053, slope).Numbers(0x00281052, intercept).Short(0x00280120, 77).Text(0x00280004, "CS", "MONOCHROME1")
            .Pixels(20, 18, Enumerable.Repeat(stored, 360).ToArray()));
        Assert.All(StudyReader.Read(folder.Path).Slices, s => Assert.All(s.Pixels.ToArray(), p => Assert.Equal(expected, p)));
    }

    [Fact]
    public void EightBitPixelsAndPaddingRange()
    {
        using var folder = new TemporaryFolder();
        byte[] pixels = [.. Enumerable.Range(0, 360).Select(i => (byte)i)];
        DicomBuilder.SaveWorld(folder, (_, b) => b.Short(0x00280103, 0).Short(0x00280101, 8).Short(0x00280102, 7).Short(0x00280100, 8)
            .Short(0x00280120, 250).Short(0x00280121, 255).Raw(0x7FE00010, "OB", pixels, 360));
        Assert.All(StudyReader.Read(folder.Path).Slices, s => Assert.Equal(pixels.Select(p => p < 250 ? p : -1024f), s.Pixels.ToArray()));
    }

    /// <summary>Files are read in parts; whatever lies across the end of one is found all the same.</summary>
    [Theory]
    [InlineData(DicomBuilder.Explicit)]
    [InlineData(DicomBuilder.Implicit)]
    public void HeadersMayBeLong(string syntax)
    {
        using var folder = new TemporaryFolder();
        DicomBuilder.SaveWorld(folder, (z, b) =>
        {
            b.Syntax = syntax;
            foreach (uint tag in (uint[])[0x00090010, 0x00110010, 0x00190010, 0x00210010, 0x00290010])
                b.Raw(tag, "OB", new byte[16384 - 2 * z * z], 16384 - 2 * (uint)(z * z));
            b.Raw(0x00091010, "SQ", DicomBuilder.Nested(300 * z, syntax == DicomBuilder.Explicit), z == 0 ? 0 : 0xFFFFFFFF);
        });
        var study = StudyReader.Read(folder.Path);
        TestWorld.AssertShown(study);
        Assert.Equal((40f, 80f), study.SeriesWindow);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void TiltIsReadOrMeasured(bool inHeader)
    {
        using var folder = new TemporaryFolder();
        var (sine, cosine) = MathF.SinCos(float.DegreesToRadians(20));
        for (int z = 0; z < TestWorld.Slices; z++)
        {
            var builder = DicomBuilder.World(z).Plane(new Vector3(0, 5, 4 * z), Vector3.UnitX, new Vector3(0, cosine, -sine));
            folder.Write($"{z}.dcm", (inHeader ? builder.Numbers(0x00181120, -20.5) : builder).ToBytes());
        }
        var study = StudyReader.Read(folder.Path);
        Assert.Equal(inHeader ? -20.5 : 20, study.GantryTilt, 2);
        Assert.All(study.Slices.Zip(study.Slices.Skip(1)), p => Assert.Equal(4 * cosine, p.Second.Position - p.First.Position, 3));
        Assert.Equal(Enumerable.Range(0, TestWorld.Slices).Select(z => $"{z}.dcm"), study.Slices.Select(s => s.Source));
    }

    [Fact]
    public void ObliqueSlicesStackedAlongTheirNormalHaveNoTilt()
    {
        using var folder = new TemporaryFolder();
        var (sine, cosine) = MathF.SinCos(float.DegreesToRadians(20));
        DicomBuilder.SaveWorld(folder, (z, b) => b.Plane(new Vector3(0, sine, cosine) * z, Vector3.UnitX, new Vector3(0, cosine, -sine)));
        Assert.Equal(0, StudyReader.Read(folder.Path).GantryTilt);
    }

    [Fact]
    public void WhatIsNotOfTheSeriesIsSetAside()
    {
        using var folder = new TemporaryFolder();
        DicomBuilder.SaveWorld(folder);
        folder.Write("LICENSE", "text"u8.ToArray());
        folder.Write("picture.png", TestPictures.Png(20, 18, _ => 7));
        folder.Write("text.dcm", "not DICOM at all"u8.ToArray());
        folder.Write("empty.dcm", []);
        folder.Write("scout.dcm", DicomBuilder.World(3).Text(0x00080008, "CS", @"ORIGINAL\PRIMARY\LOCALIZER").ToBytes());
        folder.Write("coronal.dcm", DicomBuilder.World(3).Plane(Vector3.Zero, Vector3.UnitX, -Vector3.UnitZ).ToBytes());
        folder.Write("stray.dcm", DicomBuilder.World(3).Text(0x0020000E, "UI", "1.2.3.5").ToBytes());
        folder.Write("turned.dcm", DicomBuilder.World(3, -Vector3.UnitX, Vector3.UnitY).ToBytes());
        folder.Write("twice.dcm", DicomBuilder.World(3).ToBytes());
        folder.Write("mr.dcm", DicomBuilder.World(3).Text(0x00080060, "CS", "MR").ToBytes());
        folder.Write("sr.dcm", DicomBuilder.World(3).Text(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.88.22").Without(0x00280010).Without(0x7FE00010).ToBytes());
        folder.Write("jpeg.dcm", Compressed("1.2.840.10008.1.2.4.70", 20).ToBytes());
        folder.Write("nowhere.dcm", DicomBuilder.World(3).Without(0x00200032).ToBytes());
        folder.Write("unscaled.dcm", DicomBuilder.World(3).Without(0x00281052).Without(0x00281053).Short(0x00280103, 0).ToBytes());
        folder.Write("more.dcm", DicomBuilder.World(3).Text(0x00280008, "IS", "12").ToBytes());

        var study = StudyReader.Read(folder.Path);
        TestWorld.AssertShown(study);
        Assert.Equal(Enumerable.Range(1, TestWorld.Slices).Select(z => $"{z}.dcm"), study.Slices.Select(s => s.Source));
        var reasons = study.SetAside.ToDictionary(s => s.Source, s => s.Reason);
        Assert.Equal(15, reasons.Count);
        foreach (var (source, part) in new Dictionary<string, string>
        {
            ["LICENSE"] = "not an image", ["picture.png"] = "DICOM", ["text.dcm"] = "no DICOM", ["empty.dcm"] = "empty", ["scout.dcm"] = "localizer",
            ["coronal.dcm"] = "coronal", ["stray.dcm"] = "another series", ["turned.dcm"] = "orientation", ["twice.dcm"] = "4.dcm", ["mr.dcm"] = "MR",
            ["sr.dcm"] = "without an image", ["jpeg.dcm"] = "lossless JPEG (1.2.840.10008.1.2.4.70)", ["nowhere.dcm"] = "where", ["unscaled.dcm"] = "scale",
            ["more.dcm"] = "frames",
        })
        {
            Assert.Contains(part, reasons[source]);
        }
    }

    [Fact]
    public void TheBrainIsReadAndNotTheBoneReconstructionOfTheSameHead()
    {
        using var folder = new TemporaryFolder();
        DicomBuilder.SaveWorld(folder);
        for (int z = 0; z < TestWorld.Slices + 6; z++)
            folder.Write($"bone{z}.dcm", DicomBuilder.World(z % TestWorld.Slices).Plane(new(0, 0, z), Vector3.UnitX, Vector3.UnitY)
                .Text(0x0020000E, "UI", "1.2.3.5").Numbers(0x00281051, 2500).ToBytes());
        var study = StudyReader.Read(folder.Path);
        TestWorld.AssertShown(study);
        Assert.Equal(TestWorld.Slices + 6, study.SetAside.Count);
    }

    private static DicomBuilder Compressed(string syntax, int z)
    {
        var builder = DicomBuilder.World(z).Raw(0x7FE00010, "OB", [0xFE, 0xFF, 0x00, 0xE0, 0, 0, 0, 0, 0xFE, 0xFF, 0xDD, 0xE0, 0, 0, 0, 0], 0xFFFFFFFF);
        builder.Syntax = syntax;
        return builder;
    }

    [Theory]
    [InlineData("1.2.840.10008.1.2.4.90", "JPEG 2000")]
    [InlineData("1.2.840.10008.1.2.5", "RLE")]
    [InlineData("1.2.840.10008.1.2.2", "big-endian")]
    [InlineData("1.2.840.10008.1.2.1.99", "deflated")]
    [InlineData("1.2.3", "unknown transfer syntax")]
    public void OtherSyntaxesAreRefusedByName(string syntax, string name)
    {
        using var folder = new TemporaryFolder();
        for (int z = 0; z < TestWorld.Slices; z++)
        {
            folder.Write($"{z}.dcm", Compressed(syntax, z).ToBytes());
        }
        string message = Refusal(folder);
        Assert.Contains(name, message);
        Assert.Contains($"({syntax})", message);
    }

    [Theory]
    [InlineData(0x00100020u, "SECRET-4712")]
    [InlineData(0x00100010u, "Secretname^Berta")]
    public void TwoPatientsAreRefused(uint tag, string value)
    {
        using var folder = new TemporaryFolder();
        DicomBuilder.SaveWorld(folder, (z, b) => _ = z == 5 ? b.Text(tag, "LO", value) : b);
        Assert.Contains("more than one patient", Refusal(folder));
    }

    [Fact]
    public void TwoStudiesOfAPatientAreRefused()
    {
        using var folder = new TemporaryFolder();
        DicomBuilder.SaveWorld(folder, (z, b) => b.Text(0x0020000D, "UI", z < 5 ? "1.2.3.4" : "1.2.3.5"));
        Assert.Contains("more than one study", Refusal(folder));
    }

    [Fact]
    public void OneNameMayBeWrittenDifferentlyOrBeMissing()
    {
        using var folder = new TemporaryFolder();
        DicomBuilder.SaveWorld(folder, (z, b) => _ = z == 5 ? b.Text(0x00100010, "PN", "SECRETNAME^ANNA^^") : z == 6 ? b.Without(0x00100020) : b);
        TestWorld.AssertShown(StudyReader.Read(folder.Path));
    }

    [Theory]
    [InlineData("+x", "-z", "coronal")]
    [InlineData("+y", "-z", "sagittal")]
    public void OtherPlanesAreRefused(string row, string column, string name)
    {
        using var folder = new TemporaryFolder();
        DicomBuilder.SaveWorld(folder, (z, b) => b.Plane(new Vector3(z, z, 0), Axis(row), Axis(column)));
        Assert.Contains(name, Refusal(folder));
    }

    [Fact]
    public void OtherModalitiesAreRefused()
    {
        using var folder = new TemporaryFolder();
        DicomBuilder.SaveWorld(folder, (_, b) => b.Text(0x00080060, "CS", "MR"));
        Assert.Contains("its modality is MR, not CT", Refusal(folder));
    }

    [Fact]
    public void ThreeSlicesAreTooFew()
    {
        using var folder = new TemporaryFolder();
        DicomBuilder.SaveWorld(folder);
        for (int z = 3; z < TestWorld.Slices; z++)
        {
            File.Delete(folder.File($"{z + 1}.dcm"));
        }
        Assert.Contains("holds 3 usable axial CT slices, at least 12 are needed", Refusal(folder));
    }

    [Fact]
    public void NestedSequencesAreSteppedOver()
    {
        using var folder = new TemporaryFolder();
        const uint undefined = 0xFFFFFFFF;
        DicomBuilder.SaveWorld(folder, (z, b) =>
        {
            b.Syntax = z % 2 == 0 ? DicomBuilder.Explicit : DicomBuilder.Implicit;
            b.Raw(0x00081140, "SQ", DicomBuilder.Nested(10_000, z % 2 == 0), undefined);
            b.Raw(0x00091001, "UN", DicomBuilder.Nested(3, isExplicit: false), undefined); // private, of unknown representation
            byte[] known = [0xFE, 0xFF, 0x00, 0xE0, 8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
            b.Raw(0x00089215, "SQ", known, (uint)known.Length);
        });
        TestWorld.AssertShown(StudyReader.Read(folder.Path));
    }

    [Theory]
    [InlineData(60000, 60000)]
    [InlineData(0, 18)]
    [InlineData(8000, 8000)]
    public void AbsurdSizesAreRefused(int columns, int rows)
    {
        using var folder = new TemporaryFolder();
        DicomBuilder.SaveWorld(folder, (z, b) => _ = z == 7 ? b.Short(0x00280011, columns).Short(0x00280010, rows) : b);
        Assert.Contains($"{columns} × {rows}", Refusal(folder));
    }

    [Fact]
    public void ATruncatedImageIsRefusedByName()
    {
        using var folder = new TemporaryFolder();
        DicomBuilder.SaveWorld(folder);
        byte[] whole = File.ReadAllBytes(folder.File("5.dcm"));
        // Also between two elements, where nothing but the absence of pixels shows it.
        int pixels = whole.AsSpan().IndexOf((ReadOnlySpan<byte>)[0xE0, 0x7F, 0x10, 0x00]), rows = whole.AsSpan().IndexOf((ReadOnlySpan<byte>)[0x28, 0x00, 0x10, 0x00]);
        foreach (int length in new[] { whole.Length - 1, whole.Length - 500, pixels, rows, rows - 1, 300, 150 })
        {
            folder.Write("5.dcm", whole[..length]);
            string message = Refusal(folder);
            Assert.Contains("5.dcm", message);
            Assert.Contains("truncated", message);
        }
    }

    [Theory]
    [InlineData(DicomBuilder.Explicit)]
    [InlineData(DicomBuilder.Implicit)]
    public void NothingButInputExceptionsEscape(string syntax)
    {
        using var folder = new TemporaryFolder();
        DicomBuilder.SaveWorld(folder, (_, b) =>
        {
            b.Syntax = syntax;
            b.Raw(0x00081140, "SQ", DicomBuilder.Nested(3, syntax == DicomBuilder.Explicit), 0xFFFFFFFF);
        });
        Hostile.Maul(folder.Path, folder.File("5.dcm"), seed: 1, flips: 900, cuts: 150, headerBytes: 900);
    }

    [Fact]
    public void SeriesLieInSubfoldersBesideADicomDir()
    {
        using var folder = new TemporaryFolder();
        var directory = new DicomBuilder().Text(0x00080016, "UI", "1.2.840.10008.1.3.10");
        folder.Write("DICOMDIR", directory.ToBytes());
        for (int z = 0; z < TestWorld.Slices; z++)
        {
            folder.Write($"S{z / 7}/I{z}", DicomBuilder.World(z).ToBytes());
        }
        folder.Write("S0/notes.txt", "x"u8.ToArray());
        var study = StudyReader.Read(folder.Path);
        TestWorld.AssertShown(study);
        Assert.Equal("S0/I0", study.Slices[0].Source);
        Assert.Equal("DICOMDIR", Assert.Single(study.SetAside).Source);
    }
}
