using Pcrl.Runtime.Studies;
using SkiaSharp;

namespace Pcrl.Runtime.Tests.Studies;

public class SliceImagesTests
{
    private const int Side = 64;

    private static float[] Prepare(Study study, WindowChoice? window = null) =>
        SliceImages.Prepare(study, SliceSelector.Select(study), Side, window ?? WindowChoice.Brain);

    private static float At(float[] images, int slice, int x, int y) => images[(slice * Side + y) * Side + x];

    [Fact]
    public void PixelsAreWindowedAndKeepTheirSides()
    {
        float[] images = Prepare(TestHead.Study(TestHead.Every(5, -40, 130)));
        Assert.Equal(24 * Side * Side, images.Length);
        Assert.All(images, v => Assert.InRange(v, 0, 1));
        const int middle = 10; // where the brain is widest
        Assert.Equal(34 / 80f, At(images, middle, Side / 4, Side / 2), 3);
        Assert.Equal(0, At(images, middle, 0, 0));
        // The patient's left is on the right of the picture.
        Assert.Contains(Enumerable.Range(Side / 2, Side / 2), Marked);
        Assert.DoesNotContain(Enumerable.Range(16, Side / 2 - 16), Marked); // clear of the skull

        bool Marked(int x) => At(images, middle, x, Side / 2) is > 0.8f and < 0.95f;
    }

    /// <summary>The network sees a head at one scale and place, whatever the field of view, the matrix and the format.</summary>
    [Theory]
    [InlineData(128, 2.3f, false)]
    [InlineData(256, 0.95f, false)]
    [InlineData(400, 0.6f, false)]
    [InlineData(256, 0.95f, true)]
    public void ScaleDoesNotHangOnTheFieldOfView(int size, float spacing, bool pictures)
    {
        float[] heights = TestHead.Every(5, -40, 130);
        float[] expected = Prepare(TestHead.Study(heights)), actual = Prepare(TestHead.Study(heights, size, spacing, pictures));
        double difference = expected.Zip(actual, (a, b) => Math.Abs(a - b)).Average();
        Assert.InRange(difference, 0, 0.04);
    }

    [Fact]
    public void PixelsThatAreNotSquareGiveARoundHead()
    {
        float[] heights = TestHead.Every(5, -40, 130);
        var square = TestHead.Study(heights, 256, 0.95f);
        // Every second row only: twice the spacing downwards.
        var flat = square with
        {
            Slices = [.. square.Slices.Select(s => s with
            {
                PixelSpacingY = 2 * s.PixelSpacingY,
                Pixels = SlicePixels.Of([.. s.Pixels.ToArray().Chunk(s.Width).Where((_, y) => y % 2 == 0).SelectMany(row => row)], s.Width),
            })],
        };
        Assert.InRange(Prepare(square).Zip(Prepare(flat), (a, b) => Math.Abs(a - b)).Average(), 0, 0.04);
    }

    [Fact]
    public void ManyPixelsOnManyThreadsAreTheSamePixels()
    {
        var study = TestHead.Study(TestHead.Every(5, 0, 118));
        var selection = SliceSelector.Select(study);
        float[] large = SliceImages.Prepare(study, selection, 224, WindowChoice.Brain); // above the size where threads begin
        for (int i = 0; i < 24; i++)
        {
            var one = SliceImages.Prepare(study, selection with { Slices = [selection.Slices[i]] }, 224, WindowChoice.Brain);
            Assert.True(large.AsSpan(i * one.Length, one.Length).SequenceEqual(one));
        }
    }

    [Fact]
    public void WindowsAreChosenByName()
    {
        var study = TestHead.Study(TestHead.Every(5, 0, 118));
        var seen = Prepare(study with { SeriesWindow = (34, 200) }, WindowChoice.Parse("series"));
        Assert.Equal(0.5f, At(seen, 10, Side / 4, Side / 2), 3);
        Assert.Equal(0.25f, At(Prepare(study, WindowChoice.Parse("84/200")), 10, Side / 4, Side / 2), 3);
        Assert.Throws<InputException>(() => Prepare(study, WindowChoice.Series));
        foreach (string wrong in (string[])["", "bone", "40", "40/0", "40/-5", "NaN/80", "40/80/1"])
            Assert.Throws<InputException>(() => WindowChoice.Parse(wrong));
    }

    [Fact]
    public void TheContactSheetIsAPictureOfAllOfThem()
    {
        using var folder = new TemporaryFolder();
        var study = TestHead.Study(TestHead.Every(5, -40, 130));
        var selection = SliceSelector.Select(study);
        ContactSheet.Write(study, selection, WindowChoice.Brain, folder.File("sheet.png"));
        using var sheet = SKBitmap.Decode(folder.File("sheet.png"));
        Assert.InRange(sheet.Width, 8 * 100, 4000);
        for (int layer = 0; layer < 8; layer++)
            for (int k = 0; k < 3; k++)
            {
                var middle = sheet.GetPixel((2 * layer + 1) * sheet.Width / 16, (2 * k + 1) * sheet.Height / 6);
                Assert.InRange(middle.Red, 80, 140); // brain, 34 HU
            }
        Assert.Equal([folder.File("sheet.png")], Directory.GetFiles(folder.Path));
        Assert.Throws<InputException>(() => ContactSheet.Write(study, selection, WindowChoice.Brain, folder.File("missing/sheet.png")));
    }
}
