using Pcrl.Runtime.Studies;

namespace Pcrl.Runtime.Tests.Studies;

public class CropFilterTests
{
    /// <summary>Sixteen rows are summed at once; each must have the bits of one that is summed alone, pixel by pixel.</summary>
    [Theory]
    [InlineData(97, 83, 10, 5, 80, 70, 1, 1, 80)]
    [InlineData(200, 210, 20, 15, 170, 190, 1, 1.5f, 33)]
    [InlineData(64, 48, 3, 2, 60, 44, 0.7f, 0.4f, 112)] // larger than it was
    [InlineData(40, 31, 0, 0, 40, 31, 1, 1, 16)] // reaches over every edge
    [InlineData(16, 16, 0, 0, 1, 1, 1, 1, 5)]
    [InlineData(40, 16, 0, 0, 40, 16, 1, 1, 64)] // with rows below the last that fill a rented array
    [InlineData(300, 20, 290, 0, 300, 4, 1, 1, 7)]
    public void RowsAtOnceAreSummedAsOneByOne(int width, int height, int left, int top, int right, int bottom, float spacingX, float spacingY, int size)
    {
        var random = new Random(width);
        float[] pixels = [.. Enumerable.Range(0, width * height).Select(_ => random.NextSingle() * 300 - 100)];
        var slice = new StudySlice("one", SlicePixels.Of(pixels, width), spacingX, spacingY, 0, 1);
        var box = new HeadBox(left, top, right, bottom);
        const float scale = 1 / 80f, offset = 0.5f - 40 / 80f;

        float[] actual = new float[size * size];
        Array.Fill(actual, float.NaN);
        new CropFilter(slice, box, size).Apply(slice.Pixels, scale, offset, actual);

        double aspect = spacingY / spacingX, side = 1.22 * Math.Max(right - left, (bottom - top) * aspect);
        var columns = Taps((left + right - side) / 2, side / size, size, width);
        var rows = Taps((top + bottom - side / aspect) / 2, side / aspect / size, size, height);
        for (int y = 0; y < size; y++)
        {
            for (int x = 0; x < size; x++)
            {
                float sum = 0;
                for (int v = 0; v < rows[y].Weights.Length; v++)
                {
                    float row = 0;
                    for (int u = 0; u < columns[x].Weights.Length; u++)
                    {
                        float pixel = pixels[(rows[y].First + v) * width + columns[x].First + u] * scale;
                        row += Math.Clamp(pixel + offset, 0, 1) * columns[x].Weights[u];
                    }
                    sum += row * rows[y].Weights[v];
                }
                Assert.Equal(Math.Min(sum, 1), actual[y * size + x]);
            }
        }
    }

    private static (int First, float[] Weights)[] Taps(double start, double step, int size, int length) => [.. Enumerable.Range(0, size).Select(i =>
    {
        double support = Math.Max(1, step), centre = start + (i + 0.5) * step;
        int from = (int)Math.Floor(centre - support), to = (int)Math.Ceiling(centre + support);
        double[] all = [.. Enumerable.Range(from, to - from).Select(p => Math.Max(0, 1 - Math.Abs(p + 0.5 - centre) / support))];
        double total = 0;
        foreach (double weight in all)
            total += weight;
        int first = Math.Clamp(from, 0, length), last = Math.Clamp(to, first, length);
        return (first, all.Skip(first - from).Take(last - first).Select(weight => (float)(weight / total)).ToArray());
    })];
}
