using Pcrl.Runtime.Studies;

namespace Pcrl.Runtime.Tests.Studies;

public class SliceSelectorTests
{
    [Theory]
    [InlineData(10f)]
    [InlineData(6.5f)]
    [InlineData(5f)]
    [InlineData(3f)]
    [InlineData(1f)]
    public void EveryCountCoversTheBrainFromBaseToVertex(float step)
    {
        foreach (bool pictures in (bool[])[false, true])
        {
            float[] heights = TestHead.Every(step, -40, TestHead.BrainHeight + 15);
            var study = TestHead.Study(heights, pictures: pictures);
            var chosen = SliceSelector.Select(study).Slices;
            Assert.Equal(Enumerable.Range(0, 24), chosen.Select(c => c.Index));
            Assert.Equal(Enumerable.Range(0, 24).Select(i => i / 3), chosen.Select(c => c.Layer));
            Assert.Equal(chosen.Select(c => study.Slices[c.Slice].Source), chosen.Select(c => c.Source));
            Assert.All(chosen, c => Assert.Equal(Anatomy.Levels[c.Layer], c.Level));
            Assert.All(chosen.Zip(chosen.Skip(1)), p => Assert.True(p.First.Slice <= p.Second.Slice));
            Assert.InRange(heights[chosen[0].Slice], 0, 22); // no neck, no gap
            Assert.InRange(heights[chosen[^1].Slice], 0.85f * TestHead.BrainHeight - step, TestHead.BrainHeight); // vertex, but no air
        }
    }

    [Fact]
    public void ABrainOfFewSlicesRepeatsThemAndSaysSo()
    {
        var chosen = SliceSelector.Select(TestHead.Study(TestHead.Every(8, -40, 130))).Slices;
        int[] slices = [.. chosen.Select(c => c.Slice)];
        Assert.True(slices.Distinct().Count() < 24);
        Assert.Equal(Enumerable.Range(slices[0], slices[^1] - slices[0] + 1), slices.Distinct());
        for (int i = 1; i < 24; i++)
            Assert.Equal(slices[i] == slices[i - 1], chosen[i].Reason.Contains("repeated"));
    }

    /// <summary>Thin below, thick above, as scanners do: equal steps are equal millimetres, and no slice is dropped while another is repeated.</summary>
    [Fact]
    public void MixedThicknessIsSteppedByMillimetres()
    {
        float[] heights = [.. TestHead.Every(4, 2, 58), .. TestHead.Every(7, 62, 118)];
        var study = TestHead.Study(heights);
        var chosen = SliceSelector.Select(study).Slices;
        int[] slices = [.. chosen.Select(c => c.Slice)];
        Assert.All(slices.Zip(slices.Skip(1)), p => Assert.InRange(p.Second - p.First, 0, heights.Length > 24 ? 2 : 1));
        float middle = (heights[slices[0]] + heights[slices[^1]]) / 2;
        Assert.InRange(heights[slices[12]], middle - 8, middle + 8);
    }

    [Fact]
    public void AStudyWithoutAHeadIsRefused()
    {
        var air = TestHead.Study(Enumerable.Repeat(500f, 20).Select((z, i) => z + i));
        Assert.Throws<InputException>(() => SliceSelector.Select(air));
    }

    [Fact]
    public void StepsAreFilledInOrderOnceWhereSlicesSufficeAndAllWhereTheyDont()
    {
        var random = new Random(5);
        for (int run = 0; run < 300; run++)
        {
            int n = random.Next(1, 60), steps = random.Next(1, 30);
            double[] places = [.. Enumerable.Range(0, n).Select(_ => random.NextDouble() * steps).Order()];
            int[] slices = SliceSelector.Assign(places, steps);
            Assert.Equal(steps, slices.Length);
            Assert.All(slices, s => Assert.InRange(s, 0, n - 1));
            var moves = slices.Zip(slices.Skip(1), (a, b) => b - a);
            if (n >= steps)
                Assert.All(moves, m => Assert.True(m >= 1));
            else
            {
                Assert.All(moves, m => Assert.InRange(m, 0, 1));
                Assert.Equal((0, n - 1), (slices[0], slices[^1]));
            }
        }
    }

    [Fact]
    public void StepsTakeTheLeastDistanceOfAllChoices()
    {
        var random = new Random(6);
        for (int run = 0; run < 200; run++)
        {
            int n = random.Next(3, 9);
            double[] places = [.. Enumerable.Range(0, n).Select(_ => random.NextDouble() * 3).Order()];
            double least = double.PositiveInfinity;
            for (int a = 0; a < n; a++)
                for (int b = a + 1; b < n; b++)
                    for (int c = b + 1; c < n; c++)
                        least = Math.Min(least, Distance(places, a, b, c));
            Assert.Equal(least, Distance(places, SliceSelector.Assign(places, 3)), 9);
        }
    }

    private static double Distance(double[] places, params int[] slices) => slices.Select((s, i) => (places[s] - i) * (places[s] - i)).Sum();

    [Fact]
    public void PicturesFromVertexToBaseAreTurnedRound()
    {
        var study = TestHead.Study(TestHead.Every(5, -40, 118), pictures: true);
        Assert.Empty(SliceOrder.CaudalFirst(study).Notes);
        var turned = SliceOrder.CaudalFirst(study with { Slices = [.. study.Slices.Reverse()] });
        Assert.Single(turned.Notes);
        Assert.Equal(study.Slices.Select(s => s.Source), turned.Slices.Select(s => s.Source));
    }
}
