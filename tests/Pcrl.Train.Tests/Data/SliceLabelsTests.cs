using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Tests.Data;

public class SliceLabelsTests
{
    [Fact]
    public void NamesAreDistinctAndFound()
    {
        Assert.Equal(SliceLabels.Count, SliceLabels.Names.Distinct().Count());
        Assert.InRange(SliceLabels.Count, 60, 120);
        Assert.Equal("shift:Left", SliceLabels.Names[SliceLabels.IndexOf("shift:Left")]);
    }

    [Fact]
    public void LabelsAgreeWithTheMasks()
    {
        var used = new bool[SliceLabels.Count];
        for (ulong seed = 0; seed < 50; seed++)
        {
            Phantom phantom = PhantomGenerator.Create(seed, new PhantomOptions { ImageSize = 64 });
            byte[] labels = SliceLabels.Of(phantom);
            int slices = phantom.Study.Slices.Count;
            Assert.Equal(slices * SliceLabels.Count, labels.Length);
            float pixel = phantom.Study.Slices[0].PixelSpacingX;
            for (int k = 0; k < slices; k++)
            {
                bool On(string name) => labels[k * SliceLabels.Count + SliceLabels.IndexOf(name)] == 1;
                for (int i = 0; i < SliceLabels.Count; i++) used[i] |= labels[k * SliceLabels.Count + i] == 1;
                for (int l = 0; l < phantom.Truth.Lesions.Count; l++)
                {
                    LesionKind kind = phantom.Truth.Lesions[l].Fact.Kind;
                    int area = phantom.Masks.Lesions.AsSpan(k * 4096, 4096).Count((byte)(l + 1));
                    if (area * pixel * pixel >= SliceLabels.VisibleMm2) Assert.True(On($"kind:{kind}"));
                }
                foreach (LesionKind kind in Enum.GetValues<LesionKind>())
                    if (On($"kind:{kind}")) Assert.Contains(phantom.Truth.Facts.Lesions, f => f.Kind == kind);
                Assert.Equal(phantom.Truth.LayerOfSlice[k] == 4, On("layer:4"));
                if (On("atrophy")) Assert.True(phantom.Truth.Facts.Atrophy);
            }
            if (phantom.Truth.Lesions.Count > 0)
            {
                int best = Enumerable.Range(0, slices).Max(k => (int)labels[k * SliceLabels.Count + SliceLabels.IndexOf($"kind:{phantom.Truth.Lesions[0].Fact.Kind}")]);
                Assert.Equal(1, best);
            }
        }
        Assert.True(used.Count(u => u) > SliceLabels.Count / 2);
    }

    [Fact]
    public void CtIchLabelsAreKnownOnlyAsFarAsTheyGo()
    {
        byte[] labels = SliceLabels.Of(new CtIchSlice(3, "03.jpg", [LesionKind.Epidural], false));
        byte At(string name) => labels[SliceLabels.IndexOf(name)];
        Assert.Equal(1, At("kind:Epidural"));
        Assert.Equal(1, At("any-blood"));
        Assert.Equal(TrainingStudy.Unknown, At("Epidural:Frontal:Left"));
        Assert.Equal(0, At("kind:Subdural"));
        Assert.Equal(0, At("Subdural:Left"));
        Assert.Equal(0, At("Haemorrhage:Frontal:Left"));
        Assert.Equal(TrainingStudy.Unknown, At("kind:Infarct"));
        Assert.Equal(TrainingStudy.Unknown, At("atrophy"));
    }
}
