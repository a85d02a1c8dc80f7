using System.Runtime.InteropServices;
using Pcrl.Runtime;
using Pcrl.Runtime.Vision;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Models;
using Pcrl.Train.Models.Sam;
using Pcrl.Train.Torch;
using static TorchSharp.torch;

namespace Pcrl.Train.Tests.Checkpoints;

/// <summary>Published checkpoints go in under their own names, as torch.save wrote them. (The authors' file: ConverterTests; CLIP and MedCLIP: PrepareTests, ClipGoldens.)</summary>
[Collection("torch")]
public sealed class KnownNamesTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-names-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    /// <summary>A state dict in the form of torch.save, inside <c>{"state_dict": …}</c> where <paramref name="wrapped"/>.</summary>
    private string Save(string file, IReadOnlyList<(string Name, Tensor Value)> weights, bool legacy, bool wrapped)
    {
        var builder = new TorchFileBuilder();
        for (int i = 0; i < weights.Count; i++)
            builder.Storage($"{i}", MemoryMarshal.AsBytes<float>(Weights.Floats(weights[i].Value)).ToArray(), weights[i].Value.numel());
        void Items(TorchFileBuilder dictionary)
        {
            for (int i = 0; i < weights.Count; i++)
            {
                long[] shape = weights[i].Value.shape, strides = [.. shape.Select((_, d) => shape.Skip(d + 1).Aggregate(1L, (a, b) => a * b))];
                dictionary.Text(weights[i].Name).Tensor("FloatStorage", $"{i}", 0, shape, strides);
            }
        }
        builder.Dictionary(d =>
        {
            if (wrapped)
                d.Text("state_dict").Dictionary(Items);
            else
                Items(d);
        });
        string path = Path.Combine(_folder, file);
        File.WriteAllBytes(path, legacy ? builder.Legacy() : builder.Zip());
        return path;
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Segment_Anything(bool legacy)
    {
        TorchDevice.Configure(1, 1);
        using var sam = new SamModel(new SamConfig
        {
            ImageSize = 32, PatchSize = 8, EmbedDim = 16, Depth = 2, NumHeads = 2, MlpRatio = 2, WindowSize = 2, GlobalAttnIndexes = [1],
            PromptEmbedDim = 16, MaskInChans = 8, DecoderMlpDim = 16, DecoderHeads = 8, IouHidden = 16,
        });
        using var pixels = rand(3, 1, 1);
        string file = Save("sam_vit.pth", [.. Weights.Of(sam), ("pixel_mean", pixels), ("pixel_std", pixels)], legacy, wrapped: false);
        using var read = SamModel.Open(file);
        Assert.All(Weights.Of(sam).Zip(Weights.Of(read)), pair => Assert.Equal(Weights.Floats(pair.First.Value), Weights.Floats(pair.Second.Value)));

        byte[] whole = File.ReadAllBytes(file);
        File.WriteAllBytes(file, whole[..(whole.Length / 2)]);
        string message = Assert.Throws<InputException>(() => SamModel.Open(file)).Message;
        Assert.Contains("sam_vit.pth", message);
        Assert.DoesNotContain('\n', message);
    }

    [Fact]
    public void Torchvisions_ResNet101()
    {
        var theirs = new HashSet<string> { "conv1.weight" };
        void Norm(string name) => theirs.UnionWith(new[] { "weight", "bias", "running_mean", "running_var" }.Select(part => $"{name}.{part}"));
        Norm("bn1");
        int[] depths = [3, 4, 23, 3];
        for (int layer = 0; layer < depths.Length; layer++)
        {
            for (int block = 0; block < depths[layer]; block++)
            {
                string at = $"layer{layer + 1}.{block}";
                for (int i = 1; i <= 3; i++)
                {
                    theirs.Add($"{at}.conv{i}.weight");
                    Norm($"{at}.bn{i}");
                }
                if (block == 0)
                {
                    theirs.Add($"{at}.downsample.0.weight");
                    Norm($"{at}.downsample.1");
                }
            }
        }
        using (var full = PcrlModel.Outline(new ModelShape(new VisualConfig(), new Pcrl.Runtime.Language.LlmConfig { NumHiddenLayers = 1 }, new LoraConfig())))
            Assert.Equal(theirs.Order(StringComparer.Ordinal), Weights.Of(full.Trunk).Select(w => w.Name).Order(StringComparer.Ordinal));

        TorchDevice.Configure(1, 1);
        var small = new VisualConfig { ImageSize = 64, Block = "bottleneck", Depths = [1, 1], Width = 4, Grid = 2 };
        using ResNet saved = new(small), read = new(small);
        using var classifier = rand(10, 32);
        string file = Save("resnet.pth", [.. Weights.Of(saved), ("fc.weight", classifier)], legacy: true, wrapped: true);
        Pcrl.Train.Fitting.BaseModel.Load(file, read);
        Assert.All(Weights.Of(saved).Zip(Weights.Of(read)), pair => Assert.Equal(Weights.Floats(pair.First.Value), Weights.Floats(pair.Second.Value)));

        using var other = new ResNet(small with { Depths = [2, 1] });
        string message = Assert.Throws<InputException>(() => Pcrl.Train.Fitting.BaseModel.Load(file, other)).Message;
        Assert.Contains("are missing: layer1.1.conv1.weight", message);
    }
}
