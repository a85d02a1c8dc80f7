using Pcrl.Runtime.Studies;

namespace Pcrl.Runtime.Tests.Studies;

public class PixelScaleTests
{
    /// <summary>Eight values at once mean what the table says, for every pattern of 16 bits.</summary>
    [Theory]
    [InlineData(16, 15, true, 1, 0, 1, 0)]
    [InlineData(16, 15, false, 1, -1024, 1, 0)]
    [InlineData(16, 15, true, 1, -1024, -2000, -2000)]
    [InlineData(16, 15, false, 1, -1024, 60000, 65535)]
    [InlineData(12, 11, false, 1, -1024, 0, 0)]
    [InlineData(12, 11, true, 1, 0, -2048, -2040)]
    [InlineData(12, 15, false, 2, -1000, 1, 0)]
    [InlineData(10, 12, true, -3, 77, 5, 9)]
    [InlineData(1, 0, true, 7, 3, 1, 0)]
    [InlineData(16, 15, true, 255, 65536, 1, 0)] // the largest sums that a float holds
    [InlineData(16, 15, false, -255, -65536, 1, 0)]
    public void EightAtOnceAreTheTable(int stored, int high, bool signed, double slope, double intercept, int paddingLow, int paddingHigh)
    {
        var scale = new PixelScale(16, stored, high, signed, slope, intercept, paddingLow, paddingHigh);
        Assert.True(scale.IsWhole);
        ushort[] patterns = [.. Enumerable.Range(0, 1 << 16).Select(p => (ushort)p)];
        float[] actual = new float[patterns.Length];
        scale.Convert(patterns, actual);
        Assert.Equal(scale.Table(), actual);
        for (int length = 0; length < 20; length++)
        {
            float[] some = new float[length + 1];
            scale.Convert(patterns.AsSpan(1000, length), some);
            Assert.Equal([.. actual[1000..(1000 + length)], 0], some); // and nothing behind them
        }
    }

    [Theory]
    [InlineData(0.5, 0)]
    [InlineData(1, -0.5)]
    [InlineData(256, 1)]
    [InlineData(1, 16777216)]
    public void AScaleThatAFloatWouldRoundIsNotWhole(double slope, double intercept) =>
        Assert.False(new PixelScale(16, 16, 15, true, slope, intercept, 1, 0).IsWhole);

    /// <summary>Pixels of every row, from any column, at any step and in any direction are those of the whole slice.</summary>
    [Theory]
    [InlineData(1)] // whole
    [InlineData(0.5)] // by table
    public void PartsOfARowArePartsOfTheSlice(double slope)
    {
        const int width = 600, height = 3;
        var random = new Random(1);
        byte[] stored = new byte[2 * width * height];
        random.NextBytes(stored);
        foreach (bool flipped in (bool[])[false, true])
        {
            foreach (bool turned in (bool[])[false, true])
            {
                var (across, down) = turned ? (new StoredAxis(width, height, flipped), new StoredAxis(height, 1, false)) : (new StoredAxis(width, 1, flipped), new StoredAxis(height, width, false));
                var scale = new PixelScale(16, 16, 15, true, slope, 0, 1, 0);
                float[] table = scale.Table();
                var pixels = SlicePixels.Of(stored, PixelWalk.Over(across, down), scale, []);
                Assert.Equal((width, height), (pixels.Width, pixels.Height));
                float Expected(int x, int y)
                {
                    int column = flipped ? width - 1 - x : x;
                    return table[BitConverter.ToUInt16(stored, 2 * (turned ? column * height + y : y * width + column))];
                }
                for (int y = 0; y < height; y++)
                {
                    foreach (var (x, step) in ((int, int)[])[(0, 1), (7, 1), (0, 2), (3, 4), (599, 1)])
                    {
                        float[] row = new float[(width - x + step - 1) / step];
                        pixels.Read(y, x, step, row);
                        Assert.Equal(row.Select((_, i) => Expected(x + i * step, y)), row);
                    }
                }
                Assert.Equal(Enumerable.Range(0, width * height).Select(i => Expected(i % width, i / width)), pixels.ToArray());
            }
        }
    }
}
