using System.Text;
using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;

namespace Pcrl.Train.Tests.Checkpoints;

public sealed class SafetensorsTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-safetensors-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string Write(string header, int dataBytes)
    {
        string path = Path.Combine(_folder, Guid.NewGuid() + ".safetensors");
        byte[] text = Encoding.UTF8.GetBytes(header);
        File.WriteAllBytes(path, [.. BitConverter.GetBytes((long)text.Length), .. text, .. new byte[dataBytes]]);
        return path;
    }

    [Fact]
    public void What_is_written_is_read_back()
    {
        string path = Path.Combine(_folder, "a.safetensors");
        var writer = new SafetensorsWriter();
        writer.AddMetadata("made by", "test");
        writer.AddFloats("w", [2, 3], () => [1, 2, 3, 4, 5, float.NaN]);
        writer.AddIntegers("step", [], [42]);
        writer.Save(path);

        using var file = SafetensorsFile.Open(path);
        Assert.Equal("test", file.Metadata["made by"]);
        Assert.Equal([2L, 3L], file.Entry("w").Shape);
        Assert.Equal([1, 2, 3, 4, 5, float.NaN], file.ReadFloats("w"));
        Assert.Equal([42L], file.ReadIntegers("step"));
        Assert.Equal([path], Directory.GetFiles(_folder));
    }

    /// <summary>0x80 and the protocol's number begin a pickle; they are the first bytes of these lengths too.</summary>
    [Theory]
    [InlineData(0x0280)]
    [InlineData(0x0380)]
    [InlineData(0x0480)]
    public void A_header_whose_length_begins_like_a_pickle_is_a_header(int length)
    {
        string path = Write("""{"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}""".PadRight(length), 4);
        using var file = Checkpoint.Open(path);
        Assert.Equal(["w"], file.Names);
    }

    [Fact]
    public void A_wrong_number_of_values_leaves_no_file()
    {
        string path = Path.Combine(_folder, "b.safetensors");
        var writer = new SafetensorsWriter();
        writer.AddFloats("w", [2, 3], () => [1]);
        Assert.Throws<InvalidOperationException>(() => writer.Save(path));
        Assert.Empty(Directory.GetFiles(_folder));
    }

    [Theory]
    [InlineData("""{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]}}""", 15, "outside the file")]
    [InlineData("""{"w":{"dtype":"F32","shape":[5],"data_offsets":[0,16]}}""", 16, "claims 5 elements")]
    [InlineData("""{"w":{"dtype":"F33","shape":[4],"data_offsets":[0,16]}}""", 16, "unknown element type")]
    [InlineData("""{"w":{"dtype":"F32","shape":[-4],"data_offsets":[0,16]}}""", 16, "impossible shape")]
    [InlineData("""{"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,16]}}""", 16, "impossible shape")]
    [InlineData("""{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"v":{"dtype":"F32","shape":[4],"data_offsets":[8,24]}}""", 24, "overlaps")]
    [InlineData("""{"w":{"dtype":"F32","shape":[4],"data_offsets":[0,16]},"w":{"dtype":"F32","shape":[4],"data_offsets":[16,32]}}""", 32, "twice")]
    [InlineData("""{"w":{"dtype":"F32","shape":[4]}}""", 16, "not valid safetensors JSON")]
    [InlineData("""{"w":{"dtype":"F32","shape":"x","data_offsets":[0,16]}}""", 16, "not valid safetensors JSON")]
    [InlineData("not json at all", 16, "not valid safetensors JSON")]
    public void A_broken_header_is_refused_by_name(string header, int dataBytes, string problem)
    {
        string path = Write(header, dataBytes);
        var error = Assert.Throws<InputException>(() => SafetensorsFile.Open(path));
        Assert.StartsWith(path + ": ", error.Message);
        Assert.Contains(problem, error.Message);
    }

    [Fact]
    public void Random_damage_never_escapes_as_another_exception()
    {
        string path = Path.Combine(_folder, "c.safetensors");
        var writer = new SafetensorsWriter();
        writer.AddFloats("w", [2, 3], () => new float[6]);
        writer.AddFloats("v", [4], () => new float[4]);
        writer.Save(path);
        byte[] good = File.ReadAllBytes(path);
        var random = new Random(1);
        for (int round = 0; round < 2000; round++)
        {
            byte[] bad = good[..random.Next(0, good.Length + 1)];
            for (int flips = random.Next(0, 4); flips > 0 && bad.Length > 0; flips--)
                bad[random.Next(bad.Length)] ^= (byte)(1 << random.Next(8));
            File.WriteAllBytes(path, bad);
            try
            {
                using var file = SafetensorsFile.Open(path);
                foreach (var entry in file.Tensors.Values)
                    _ = file.Bytes(entry.Name)[..];
            }
            catch (InputException)
            {
            }
        }
    }
}
