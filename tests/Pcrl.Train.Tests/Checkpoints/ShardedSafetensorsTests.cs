using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;

namespace Pcrl.Train.Tests.Checkpoints;

public sealed class ShardedSafetensorsTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-shards-").FullName;

    public ShardedSafetensorsTests()
    {
        foreach (string name in new[] { "a", "b" })
        {
            var writer = new SafetensorsWriter();
            writer.AddFloats(name, [2], () => name == "a" ? [1, 2] : [3, 4]);
            writer.Save(Path.Combine(_folder, $"model-{name}.safetensors"));
        }
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private void Index(string map) => File.WriteAllText(Path.Combine(_folder, "model.safetensors.index.json"), $$"""{"weight_map":{{map}}}""");

    [Fact]
    public void Tensors_come_from_their_shards()
    {
        Index("""{"a":"model-a.safetensors","b":"model-b.safetensors"}""");
        using var source = Checkpoint.Open(_folder);
        Assert.Equal(["a", "b"], source.Names.Order());
        Assert.Equal([1f, 2], source.ReadFloats("a"));
        Assert.Equal([3f, 4], source.ReadFloats("b"));
    }

    [Theory]
    [InlineData("""{"a":"../model-a.safetensors"}""")]
    [InlineData("""{"a":"/etc/passwd"}""")]
    [InlineData("""{"a":"model-c.safetensors"}""")]
    [InlineData("""{"b":"model-a.safetensors"}""")]
    [InlineData("""{"a":1}""")]
    [InlineData("""{"a":""")]
    public void A_bad_index_is_refused(string map)
    {
        Index(map);
        Assert.Throws<InputException>(() => Checkpoint.Open(_folder));
    }
}
