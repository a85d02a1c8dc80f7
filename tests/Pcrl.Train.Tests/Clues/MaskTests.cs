using Pcrl.Train.Clues;
using Pcrl.Train.Models.Sam;

namespace Pcrl.Train.Tests.Clues;

public sealed class MaskTests
{
    [Fact]
    public void Run_lengths_survive_encoding_and_text()
    {
        var random = new Random(3);
        for (int i = 0; i < 200; i++)
        {
            int height = random.Next(1, 40), width = random.Next(1, 40);
            double density = random.NextDouble();
            bool[] mask = [.. Enumerable.Range(0, height * width).Select(_ => random.NextDouble() < density)];
            var runs = RunLengthMask.Encode(mask, height, width);
            Assert.Equal(mask, runs.Decode());
            Assert.Equal(mask.Count(m => m), runs.Area);
            Assert.Equal(runs.Counts, RunLengthMask.Parse(runs.ToText(), height, width).Counts);
        }
    }

    [Fact]
    public void Text_is_COCOs()
    {
        // 10 zeros, 4 ones, 6 zeros, then differences to the count before last.
        Assert.Equal(":46", new RunLengthMask(4, 5, [10, 4, 6]).ToText());
        Assert.Equal("P21", new RunLengthMask(5, 13, [64, 1]).ToText());
    }

    [Theory]
    [InlineData("")]
    [InlineData(":4")]
    [InlineData(":47")]
    [InlineData("oooooooo")]
    [InlineData("\u0001")]
    [InlineData("P")]
    public void Broken_text_is_refused(string text) => Assert.Throws<FormatException>(() => RunLengthMask.Parse(text, 4, 5));

    [Fact]
    public void Small_holes_are_filled_and_small_islands_removed()
    {
        bool[] Mask(string rows) => [.. rows.Where(c => c is '#' or '.').Select(c => c == '#')];
        bool[] mask = Mask("#####. #...#. #.#.#. #####. .....#");
        var (filled, changed) = MaskGeometry.RemoveSmallRegions(mask, 5, 6, 9, holes: true);
        Assert.True(changed);
        Assert.Equal(Mask("#####. #####. #####. #####. .....#"), filled);
        // The lone pixel below right touches the body's corner: connected.
        Assert.False(MaskGeometry.RemoveSmallRegions(filled, 5, 6, 5, holes: false).Changed);
        (bool[] cut, changed) = MaskGeometry.RemoveSmallRegions(Mask("##.... ##.... ...... .....#"), 4, 6, 3, holes: false);
        Assert.True(changed);
        Assert.Equal(Mask("##.... ##.... ...... ......"), cut);
        // If all are small, the largest stays.
        Assert.Equal(4, MaskGeometry.RemoveSmallRegions(Mask("##.... ##.... ...... .....#"), 4, 6, 9, holes: false).Mask.Count(m => m));
    }

    [Fact]
    public void The_gallery_drops_the_largest_and_keeps_five()
    {
        static SamMask Of(int area) => new(new RunLengthMask(10, 10, [100 - area, area]), default, 0, 0, 0, 0, default);
        Assert.Equal([60, 50, 40, 30, 20], MaskGallery.Select([Of(20), Of(90), Of(10), Of(60), Of(50), Of(40), Of(30)]).Select(m => m.Area));
        Assert.Equal([90, 20], MaskGallery.Select([Of(20), Of(90)]).Select(m => m.Area));
        Assert.Equal(5, MaskGallery.Select([Of(1), Of(2), Of(3), Of(4), Of(5)]).Count);
        Assert.Empty(MaskGallery.Select([]));
    }

    [Fact]
    public void Outside_the_mask_is_black() =>
        Assert.Equal([0, 0, 7, 0], MaskGallery.Masked([5, 6, 7, 8], RunLengthMask.Encode([false, false, true, false], 2, 2)));
}
