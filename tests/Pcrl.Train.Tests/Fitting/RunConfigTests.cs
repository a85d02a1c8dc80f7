using Pcrl.Runtime;
using Pcrl.Train.Fitting;

namespace Pcrl.Train.Tests.Fitting;

public class RunConfigTests
{
    [Fact]
    public void Keys_left_out_have_the_papers_values()
    {
        var config = Load("""{ "name": "x", "visual": { "image_size": 96 } }""");
        Assert.Equal(96, config.Visual.ImageSize);
        Assert.Equal([3, 4, 23, 3], config.Visual.Depths);
        Assert.Equal(4096, config.Language.HiddenSize);
        Assert.Equal(8, config.Lora.R);
        Assert.Equal(32, config.Lora.LoraAlpha);
    }

    [Theory]
    [InlineData("""{ "nmae": "x" }""", "nmae")]
    [InlineData("""{ "visual": { "imagesize": 96 } }""", "imagesize")]
    [InlineData("""{ "seed": "one" }""", "seed")]
    [InlineData("""{ "seed": 1""", "configuration")]
    public void What_does_not_belong_is_refused_by_name(string json, string named)
    {
        var error = Assert.Throws<InputException>(() => Load(json));
        Assert.Contains(named, error.Message);
        Assert.DoesNotContain('\n', error.Message);
    }

    [Fact]
    public void Overrides_reach_every_level()
    {
        var config = Load("{}", "--seed=9", "--trunk-fit.learning-rate=0.5", "name=other", "--visual.depths=[1,2]");
        Assert.Equal(9, config.Seed);
        Assert.Equal(0.5, config.TrunkFit.LearningRate);
        Assert.Equal("other", config.Name);
        Assert.Equal([1, 2], config.Visual.Depths);
    }

    [Theory]
    [InlineData("--sed=9")]
    [InlineData("--visual.nothing=1")]
    [InlineData("--seed.deeper=1")]
    [InlineData("--seed")]
    [InlineData("--seed=many")]
    public void Wrong_overrides_are_refused(string wrong) =>
        Assert.Contains(wrong, Assert.Throws<InputException>(() => Load("{}", wrong)).Message);

    private static RunConfig Load(string json, params string[] overrides)
    {
        string path = Path.GetTempFileName();
        try
        {
            File.WriteAllText(path, json);
            return RunConfig.Load(path, overrides);
        }
        finally
        {
            File.Delete(path);
        }
    }
}
