using Pcrl.Runtime.Studies;
using SkiaSharp;

namespace Pcrl.Runtime.Tests.Studies;

public class PictureReaderTests
{
    private static string Refusal(TemporaryFolder folder)
    {
        string message = Assert.Throws<InputException>(() => StudyReader.Read(folder.Path)).Message;
        Assert.DoesNotContain('\n', message);
        return message;
    }

    private static void Save(TemporaryFolder folder, int count = 14)
    {
        for (int i = 1; i <= count; i++)
        {
            int slice = i;
            folder.Write($"slice{i}.png", TestPictures.Png(20, 18, p => (byte)(slice + p % 200)));
        }
    }

    [Fact]
    public void PicturesComeInTheOrderPeopleCount()
    {
        using var folder = new TemporaryFolder();
        Save(folder);
        folder.Write("labels.csv", "x"u8.ToArray());
        folder.Write("fake.png", "x"u8.ToArray());
        folder.Write("other.png", TestPictures.Png(30, 18, _ => 0));
        var study = StudyReader.Read(folder.Path);
        Assert.Equal(("images", PixelUnit.Windowed), (study.Format, study.Unit));
        Assert.Equal(Enumerable.Range(1, 14).Select(i => $"slice{i}.png"), study.Slices.Select(s => s.Source));
        for (int i = 0; i < 14; i++)
        {
            var slice = study.Slices[i];
            Assert.Equal((20, 18), (slice.Width, slice.Height));
            Assert.Equal(Enumerable.Range(0, 360).Select(p => (float)(i + 1 + p % 200)), slice.Pixels.ToArray());
            Assert.All([slice.Position, slice.Thickness, slice.PixelSpacingX, slice.PixelSpacingY], v => Assert.True(float.IsNaN(v)));
        }
        Assert.Equal(["fake.png", "labels.csv", "other.png"], study.SetAside.Select(s => s.Source).Order());
        Assert.Contains("size", study.SetAside.Single(s => s.Source == "other.png").Reason);
    }

    [Fact]
    public void GreySavedAsColourIsGrey()
    {
        using var folder = new TemporaryFolder();
        for (int i = 0; i < 12; i++)
        {
            folder.Write($"{i}.png", TestPictures.Colour(20, 18, p => new SKColor((byte)(p % 256), (byte)(p % 256), (byte)(p % 256)), SKEncodedImageFormat.Png));
        }
        Assert.All(StudyReader.Read(folder.Path).Slices, s => Assert.Equal(Enumerable.Range(0, 360).Select(p => (float)(p % 256)), s.Pixels.ToArray()));
    }

    [Theory]
    [InlineData(SKEncodedImageFormat.Png)]
    [InlineData(SKEncodedImageFormat.Jpeg)]
    public void AColourPhotoIsRefused(SKEncodedImageFormat format)
    {
        using var folder = new TemporaryFolder();
        Save(folder);
        folder.Write("slice5.png", TestPictures.Colour(20, 18, p => new SKColor((byte)p, 120, (byte)(200 - p % 200)), format));
        string message = Refusal(folder);
        Assert.Contains("slice5.png", message);
        Assert.Contains("colour", message);
    }

    [Theory]
    [InlineData(SKEncodedImageFormat.Png)]
    [InlineData(SKEncodedImageFormat.Jpeg)]
    public void ATruncatedPictureIsRefused(SKEncodedImageFormat format)
    {
        using var folder = new TemporaryFolder();
        Save(folder);
        byte[] whole = TestPictures.Grey(20, 18, p => (byte)(p * 37), format);
        foreach (double part in new[] { 0.1, 0.5, 0.8 })
        {
            folder.Write("slice7.png", whole[..(int)(whole.Length * part)]);
            string message = Refusal(folder);
            Assert.Contains("slice7.png", message);
            Assert.Contains("truncated", message);
        }
    }

    [Fact]
    public void AbsurdSizesAreRefusedUndecoded()
    {
        using var folder = new TemporaryFolder();
        Save(folder);
        byte[] png = TestPictures.Png(20, 18, _ => 0);
        (png[16], png[17], png[20], png[21]) = (0x00, 0x01, 0x00, 0x01); // 65556 × 65554
        uint crc = 0xFFFFFFFF;
        foreach (byte b in png.AsSpan(12, 17))
        {
            crc ^= b;
            for (int bit = 0; bit < 8; bit++)
            {
                crc = crc >> 1 ^ ((crc & 1) * 0xEDB88320);
            }
        }
        System.Buffers.Binary.BinaryPrimitives.WriteUInt32BigEndian(png.AsSpan(29), ~crc);
        folder.Write("slice7.png", png);
        Assert.Contains("65556 × 65554", Refusal(folder));
    }

    [Theory]
    [InlineData(SKEncodedImageFormat.Png)]
    [InlineData(SKEncodedImageFormat.Jpeg)]
    public void NothingButInputExceptionsEscape(SKEncodedImageFormat format)
    {
        using var folder = new TemporaryFolder();
        Save(folder);
        folder.Write("slice7.png", TestPictures.Grey(20, 18, p => (byte)(p * 37), format));
        Hostile.Maul(folder.Path, folder.File("slice7.png"), seed: 3, flips: 350, cuts: 100, headerBytes: 200);
    }
}
