using Pcrl.Runtime.Studies;

namespace Pcrl.Runtime.Tests.Studies;

public class HeadProfileTests
{
    /// <summary>64 samples are looked at together; the parts must be those of one sample after the other, in the order of their first samples.</summary>
    [Theory]
    [InlineData(16, 16, 0.5)]
    [InlineData(64, 40, 0.4)]
    [InlineData(128, 128, 0.6)]
    [InlineData(130, 100, 0.55)]
    [InlineData(255, 200, 0.7)]
    [InlineData(640, 522, 0.6)]
    [InlineData(2048, 15, 0.6)] // a strip between two samples
    [InlineData(15, 2048, 0.6)]
    public void PartsAreThoseOfOneSampleAfterTheOther(int width, int height, double density)
    {
        var random = new Random(width);
        for (int n = 0; n < 20; n++)
        {
            // Tissue, air and a little bone, in blocks and in noise.
            int block = 1 + n % 4 * 3;
            double bone = n % 5 * 0.03;
            float[] values = [.. Enumerable.Range(0, (width / block + 1) * (height / block + 1)).Select(_ => random.NextDouble() < bone ? 200f : random.NextDouble() < density ? 40 : -900)];
            float[] pixels = [.. Enumerable.Range(0, width * height).Select(i => values[i / width / block * (width / block + 1) + i % width / block])];
            var slice = new StudySlice("one", SlicePixels.Of(pixels, width), 0.5f, 0.7f, 0, 1);
            foreach (bool skull in (bool[])[true, false])
            {
                var profile = HeadProfile.Measure(slice, PixelUnit.Hounsfield, skull);
                var expected = Parts(pixels, width, height, skull, out int step);
                Assert.Equal(expected.Select(p => p.Count * (step * step * (0.5f * 0.7f))), profile.Parts);
                var largest = expected.DefaultIfEmpty().MaxBy(p => p.Count); // the first of several
                Assert.Equal(expected.Count == 0 ? 0 : profile.Parts.Max(), profile.Largest);
                Assert.Equal(new HeadBox(largest.Box.Left * step, largest.Box.Top * step, largest.Box.Right * step, largest.Box.Bottom * step), profile.Box);
            }
        }
    }

    private static List<(int Count, HeadBox Box)> Parts(float[] pixels, int width, int height, bool skull, out int step)
    {
        int every = step = Math.Max(1, Math.Max(width, height) / 128), columns = width / step, rows = height / step;
        float At(int x, int y) => pixels[y * every * width + x * every];
        bool Bone(int x, int y) => At(x, y) >= 180;
        int[] across = [.. Enumerable.Range(0, columns)], down = [.. Enumerable.Range(0, rows)];
        var byRow = down.Select(y => (First: Array.FindIndex(across, x => Bone(x, y)), Last: Array.FindLastIndex(across, x => Bone(x, y)))).ToArray();
        var byColumn = across.Select(x => (First: Array.FindIndex(down, y => Bone(x, y)), Last: Array.FindLastIndex(down, y => Bone(x, y)))).ToArray();
        var mask = new bool[columns, rows];
        foreach (int x in across)
        {
            foreach (int y in down)
            {
                bool within = byRow[y].First >= 0 && byRow[y].First < x && x < byRow[y].Last && byColumn[x].First >= 0 && byColumn[x].First < y && y < byColumn[x].Last;
                mask[x, y] = At(x, y) is >= 1 and <= 95 && (!skull || within);
            }
        }
        var parts = new List<(int, HeadBox)>();
        foreach (int y in down)
        {
            foreach (int x in across)
            {
                var (count, box) = (0, new HeadBox(int.MaxValue, int.MaxValue, 0, 0));
                var stack = new Stack<(int X, int Y)>([(x, y)]);
                while (stack.TryPop(out var at))
                {
                    if (at.X < 0 || at.X >= columns || at.Y < 0 || at.Y >= rows || !mask[at.X, at.Y])
                        continue;
                    mask[at.X, at.Y] = false;
                    count++;
                    box = new HeadBox(Math.Min(box.Left, at.X), Math.Min(box.Top, at.Y), Math.Max(box.Right, at.X + 1), Math.Max(box.Bottom, at.Y + 1));
                    foreach (var (dx, dy) in ((int, int)[])[(1, 0), (-1, 0), (0, 1), (0, -1)])
                        stack.Push((at.X + dx, at.Y + dy));
                }
                if (count > 0)
                    parts.Add((count, box));
            }
        }
        return parts;
    }
}
