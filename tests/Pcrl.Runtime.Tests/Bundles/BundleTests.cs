using System.Text.Json.Nodes;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Vision;

namespace Pcrl.Runtime.Tests.Bundles;

/// <summary>Manifests as an enemy or an editor makes them; the weights are of no matter here.</summary>
public sealed class BundleTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public BundleTests()
    {
        _folder.Write(Bundle.VisualFile, [1, 2, 3]);
        _folder.Write(Bundle.LanguageFile, [4, 5]);
        Bundle.WriteManifest(_folder.Path, new Manifest
        {
            Format = Manifest.CurrentFormat, Model = "test", Description = "", Visual = new VisualConfig(), Prompt = PromptTemplate.ReportGeneration,
            Sampling = new SamplingDefaults(0.6f, 0.9f, 256), ContextLength = 512, Files = new Dictionary<string, FileDigest>(),
        });
    }

    public void Dispose() => _folder.Dispose();

    private string Refusal() => Assert.Throws<InputException>(() => Bundle.Open(_folder.Path)).Message;

    [Fact]
    public void FilesMayBeLinks()
    {
        using var links = new TemporaryFolder();
        foreach (string file in Directory.GetFiles(_folder.Path))
            File.CreateSymbolicLink(links.File(Path.GetFileName(file)), file);
        Assert.Equal("test", Bundle.Open(links.Path).Manifest.Model);
    }

    [Fact]
    public void Phrases_may_be_missing_but_not_be_others()
    {
        var without = Bundle.Open(_folder.Path);
        Assert.Null(without.PhrasesPath);
        Assert.Empty(without.ReadPhrases());

        _folder.Write(Bundle.PhrasesFile, "脑室\n中线\n"u8.ToArray());
        Assert.Null(Bundle.Open(_folder.Path).PhrasesPath); // nothing vouches for the file
        Bundle.WriteManifest(_folder.Path, without.Manifest);
        Assert.Equal(["脑室", "中线"], Bundle.Open(_folder.Path).ReadPhrases());

        _folder.Write(Bundle.PhrasesFile, "脑室\n中间\n"u8.ToArray());
        Assert.Contains(Bundle.PhrasesFile, Refusal());
        File.Delete(_folder.File(Bundle.PhrasesFile));
        Assert.Contains(Bundle.PhrasesFile, Refusal());
    }

    [Fact]
    public void Phrases_are_replaced_and_a_failure_leaves_a_bundle()
    {
        Bundle.Open(_folder.Path).ReplacePhrases("脑室\n中线\n");
        Assert.Equal(["脑室", "中线"], Bundle.Open(_folder.Path).ReadPhrases());
        Bundle.Open(_folder.Path).ReplacePhrases("出血\n");
        Assert.Equal(["出血"], Bundle.Open(_folder.Path).ReadPhrases());

        var bundle = Bundle.Open(_folder.Path);
        File.Delete(_folder.File(Bundle.PhrasesFile));
        Directory.CreateDirectory(_folder.File(Bundle.PhrasesFile)); // where the new ones cannot go
        Assert.Throws<InputException>(() => bundle.ReplacePhrases("脑室\n"));
        Assert.Empty(Bundle.Open(_folder.Path).ReadPhrases());
    }

    [Theory]
    [InlineData(Bundle.ManifestFile)]
    [InlineData(Bundle.VisualFile)]
    public void DevicesAreNotRead(string name)
    {
        File.Delete(_folder.File(name));
        File.CreateSymbolicLink(_folder.File(name), "/dev/zero"); // endless
        Assert.Contains("no ordinary file", Refusal());
    }

    [Theory]
    [InlineData("prompt", "{}", "not a valid manifest")]
    [InlineData("sampling", "{\"temperature\": 1}", "not a valid manifest")]
    [InlineData("files", "{\"visual.gguf\": null}", "no digest for visual.gguf")]
    [InlineData("visual", "{\"image_size\": 2048, \"width\": 1024}", "memory")]
    [InlineData("visual", "{\"depths\": null}", "missing")]
    [InlineData("visual", "{\"std\": [1e-45, 1, 1]}", "std")]
    [InlineData("visual", "{\"mean\": [1e38, 0, 0]}", "mean")]
    public void AManifestThatLacksOrLies(string key, string value, string problem)
    {
        var manifest = JsonNode.Parse(File.ReadAllText(_folder.File(Bundle.ManifestFile)))!;
        var node = JsonNode.Parse(value)!;
        if (key == "visual" && manifest[key] is JsonObject visual)
        {
            foreach (var (name, number) in node.AsObject())
            {
                if (number is null)
                    visual.Remove(name);
                else
                    visual[name] = number.DeepClone();
            }
        }
        else
            manifest[key] = node;
        File.WriteAllText(_folder.File(Bundle.ManifestFile), manifest.ToJsonString());
        Assert.Contains(problem, Refusal());
    }

    [Fact]
    public void AnEndlessPromptIsRefused()
    {
        var manifest = JsonNode.Parse(File.ReadAllText(_folder.File(Bundle.ManifestFile)))!;
        manifest["prompt"]!["head"] = new string('a', 100_000);
        File.WriteAllText(_folder.File(Bundle.ManifestFile), manifest.ToJsonString());
        Assert.Contains("prompt", Refusal());
    }
}
