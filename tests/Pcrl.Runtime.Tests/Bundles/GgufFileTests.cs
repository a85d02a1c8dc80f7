using System.Buffers.Binary;
using System.Text;
using Pcrl.Runtime.Bundles;

namespace Pcrl.Runtime.Tests.Bundles;

public sealed class GgufFileTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    private string Write(byte[] bytes)
    {
        string path = _folder.File("bad.gguf");
        File.WriteAllBytes(path, bytes);
        return path;
    }

    private byte[] Small()
    {
        var writer = new GgufWriter();
        writer.Add("general.architecture", "pcrl-visual");
        writer.Add("text", "脑CT\n");
        writer.Add("size", 224u);
        writer.Add("ratio", 0.5f);
        writer.Add("flag", true);
        writer.Add("depths", (int[])[3, 4, -23, 3]);
        writer.Add("mean", (float[])[0.485f, -1e-30f]);
        writer.Add("names", (string[])["a", "", "脑"]);
        writer.AddTensor("a.weight", GgufType.F32, [2, 3], () => [1, 2, 3, 4, 5, 6]);
        writer.AddTensor("b", GgufType.F16, [1, 2, 1, 2], () => [1.5f, -2, 65504, 1e-7f]);
        writer.AddTensor("c", GgufType.BF16, [3], () => [1.5f, float.NaN, 3.3895314e38f]);
        string path = _folder.File("small.gguf");
        writer.Save(path);
        return File.ReadAllBytes(path);
    }

    [Fact]
    public void What_is_written_is_read()
    {
        using var file = GgufFile.Open(Write(Small()));
        Assert.Equal("脑CT\n", file.GetString("text"));
        Assert.Equal(224, file.GetInteger("size"));
        Assert.Equal(0.5, file.GetFloat("ratio"));
        Assert.True(file.GetBoolean("flag"));
        Assert.Equal([3, 4, -23, 3], file.GetIntegers("depths"));
        Assert.Equal([0.485f, -1e-30f], file.GetFloats("mean"));
        Assert.Equal(["a", "", "脑"], file.GetStrings("names"));
        Assert.Equal([2, 3], file.Tensor("a.weight").Shape);
        Assert.Equal([1, 2, 3, 4, 5, 6], file.Floats("a.weight").ToArray());
        var row = new float[3];
        Assert.True(file.TryReadRow(file.Tensor("a.weight"), 1, row));
        Assert.Equal([4, 5, 6], row);
        Assert.True(file.TryReadRow(file.Tensor("b"), 1, row.AsSpan(0, 2)));
        Assert.Equal([65504, (float)(Half)1e-7f], row[..2]);
        Assert.True(file.TryReadRow(file.Tensor("c"), 0, row));
        Assert.Equal([1.5f, float.NaN, 3.3895314e38f], row);
    }

    [Fact]
    public void The_wrong_type_is_named()
    {
        using var file = GgufFile.Open(Write(Small()));
        Assert.Contains("size", Assert.Throws<InputException>(() => file.GetString("size")).Message);
        Assert.Throws<InputException>(() => file.GetInteger("ratio"));
        Assert.Throws<InputException>(() => file.GetIntegers("size"));
        Assert.Throws<InputException>(() => file.GetStrings("depths"));
        Assert.Throws<InputException>(() => file.GetFloats("depths"));
        Assert.Throws<InputException>(() => file.GetBoolean("missing"));
        Assert.Throws<InputException>(() => file.Tensor("missing"));
        var quantised = new GgufWriter();
        quantised.AddTensor("blocks", GgufType.Q8_0, [1, 32], stream => stream.Write(new byte[34]));
        quantised.Save(_folder.File("quantised.gguf"));
        using var other = GgufFile.Open(_folder.File("quantised.gguf"));
        Assert.Contains("blocks is Q8_0", Assert.Throws<InputException>(() => _ = other.Floats("blocks")).Message);
    }

    [Fact]
    public void After_closing_nothing_can_be_read()
    {
        var file = GgufFile.Open(Write(Small()));
        file.Dispose();
        file.Dispose();
        Assert.Throws<ObjectDisposedException>(() => _ = file.Floats("a.weight"));
    }

    [Fact]
    public void Missing_files_and_folders_are_refused()
    {
        Assert.Throws<InputException>(() => GgufFile.Open(_folder.File("missing.gguf")));
        Assert.Throws<InputException>(() => GgufFile.Open(_folder.Path));
        Assert.Throws<InputException>(() => GgufFile.Open(Write([])));
    }

    [Fact]
    public void Every_truncation_is_refused()
    {
        byte[] whole = Small();
        for (int length = 0; length < whole.Length - 31; length++) // the last tensor is padded by up to 31 bytes
            Assert.Throws<InputException>(() => GgufFile.Open(Write(whole[..length])));
    }

    /// <summary>A header by hand: magic, version, counts, then whatever the test wants.</summary>
    private static byte[] Header(ulong tensors, ulong values, Action<BinaryWriter> rest, uint magic = 0x46554747, uint version = 3)
    {
        var stream = new MemoryStream();
        var writer = new BinaryWriter(stream);
        writer.Write(magic);
        writer.Write(version);
        writer.Write(tensors);
        writer.Write(values);
        rest(writer);
        writer.Write(new byte[256]);
        return stream.ToArray();
    }

    private static void Text(BinaryWriter writer, string text)
    {
        writer.Write((ulong)Encoding.UTF8.GetByteCount(text));
        writer.Write(Encoding.UTF8.GetBytes(text));
    }

    private static void Tensor(BinaryWriter writer, string name, ulong[] dimensions, uint type, ulong offset)
    {
        Text(writer, name);
        writer.Write((uint)dimensions.Length);
        foreach (ulong dimension in dimensions)
            writer.Write(dimension);
        writer.Write(type);
        writer.Write(offset);
    }

    private static void Value(BinaryWriter writer, string key, uint type, Action<BinaryWriter> value)
    {
        Text(writer, key);
        writer.Write(type);
        value(writer);
    }

    private const uint UInt32 = 4, Bool = 7, String = 8, Array = 9;
    private const ulong Huge = 1UL << 62;

    public static TheoryData<string, byte[]> Hostile => new()
    {
        { "not a GGUF", Header(0, 0, _ => { }, magic: 0x4D474747) },
        { "big-endian", Header(0, 0, _ => { }, version: BinaryPrimitives.ReverseEndianness(3u)) },
        { "version 2", Header(0, 0, _ => { }, version: 2) },
        { "tensor count", Header(Huge, 0, _ => { }) },
        { "metadata count", Header(0, ulong.MaxValue, _ => { }) },
        { "metadata key of", Header(0, 1, w => w.Write(Huge)) },
        { "metadata key of 0", Header(0, 1, w => Value(w, "", UInt32, v => v.Write(1u))) },
        { "more than it can hold", Header(0, 1, w => Value(w, "text", String, v => v.Write(Huge))) },
        { "more than it can hold", Header(0, 1, w => Value(w, "list", Array, v => { v.Write(String); v.Write(Huge); })) },
        { "more than it can hold", Header(0, 1, w => Value(w, "list", Array, v => { v.Write(UInt32); v.Write(100UL); })) },
        { "nested", Header(0, 1, w => Value(w, "list", Array, v => { v.Write(Array); v.Write(1UL); })) },
        { "unknown type 13", Header(0, 1, w => Value(w, "x", 13, v => v.Write(1u))) },
        { "unknown type 99", Header(0, 1, w => Value(w, "list", Array, v => { v.Write(99u); v.Write(1UL); })) },
        { "truth value", Header(0, 1, w => Value(w, "flag", Bool, v => v.Write((byte)2))) },
        { "not UTF-8", Header(0, 1, w => Value(w, "text", String, v => { v.Write(2UL); v.Write((byte)0xC3); v.Write((byte)0x28); })) },
        { "twice", Header(0, 2, w => { Value(w, "x", UInt32, v => v.Write(1u)); Value(w, "x", UInt32, v => v.Write(1u)); }) },
        { "alignment 0", Header(0, 1, w => Value(w, "general.alignment", UInt32, v => v.Write(0u))) },
        { "alignment 24", Header(0, 1, w => Value(w, "general.alignment", UInt32, v => v.Write(24u))) },
        { "alignment 2147483648", Header(0, 1, w => Value(w, "general.alignment", UInt32, v => v.Write(1u << 31))) },
        { "general.alignment", Header(0, 1, w => Value(w, "general.alignment", String, v => Text(v, "32"))) },
        { "tensor name of 64", Header(1, 0, w => Tensor(w, new string('x', 64), [1], 0, 0)) },
        { "0 dimensions", Header(1, 0, w => Tensor(w, "x", [], 0, 0)) },
        { "5 dimensions", Header(1, 0, w => Tensor(w, "x", [1, 1, 1, 1, 1], 0, 0)) },
        { "impossible shape", Header(1, 0, w => Tensor(w, "x", [0], 0, 0)) },
        { "impossible shape", Header(1, 0, w => Tensor(w, "x", [1UL << 32, 1UL << 32], 0, 0)) },
        { "impossible shape", Header(1, 0, w => Tensor(w, "x", [ulong.MaxValue], 0, 0)) },
        { "truncated", Header(1, 0, w => Tensor(w, "x", [1UL << 40], 0, 0)) },
        { "truncated", Header(1, 0, w => Tensor(w, "x", [80], 0, 0)) },
        { "type 4", Header(1, 0, w => Tensor(w, "x", [32], 4, 0)) },
        { "type -1", Header(1, 0, w => Tensor(w, "x", [32], uint.MaxValue, 0)) },
        { "Q4_0 block", Header(1, 0, w => Tensor(w, "x", [33], 2, 0)) },
        { "0 was expected", Header(1, 0, w => Tensor(w, "x", [8], 0, 32)) },
        { "32 was expected", Header(2, 0, w => { Tensor(w, "x", [8], 0, 0); Tensor(w, "y", [8], 0, 0); }) },
        { "twice", Header(2, 0, w => { Tensor(w, "x", [8], 0, 0); Tensor(w, "x", [8], 0, 32); }) },
    };

    [Theory]
    [MemberData(nameof(Hostile))]
    public void Hostile_headers_are_refused(string part, byte[] bytes)
    {
        long before = GC.GetAllocatedBytesForCurrentThread();
        string message = Assert.Throws<InputException>(() => GgufFile.Open(Write(bytes))).Message;
        Assert.Contains(part, message);
        Assert.DoesNotContain('\n', message);
        Assert.InRange(GC.GetAllocatedBytesForCurrentThread() - before, 0, 1 << 20);
    }

    [Fact]
    public void Random_damage_never_does_worse_than_an_error_message()
    {
        byte[] whole = Small();
        var random = new Random(5);
        int opened = 0;
        for (int round = 0; round < 4000; round++)
        {
            byte[] damaged = (byte[])whole.Clone();
            for (int flips = random.Next(1, 4); flips > 0; flips--)
                damaged[random.Next(damaged.Length)] = (byte)random.Next(256);
            if (round % 4 == 0)
                damaged = damaged[..random.Next(damaged.Length)];
            try
            {
                using var file = GgufFile.Open(Write(damaged));
                ReadEverything(file);
                opened++;
            }
            catch (InputException)
            {
            }
        }
        Assert.InRange(opened, 1, 3999);
    }

    private static void ReadEverything(GgufFile file)
    {
        foreach (var tensor in file.Tensors.Values)
        {
            for (long row = 0; row < tensor.ElementCount / tensor.Shape[^1]; row++)
                Assert.Equal(tensor.ByteCount / (tensor.ElementCount / tensor.Shape[^1]), file.RowBytes(tensor, row).ToArray().Length);
        }
        foreach (string key in file.Keys)
        {
            foreach (Action read in (Action[])[
                () => file.GetString(key), () => file.GetInteger(key), () => file.GetFloat(key), () => file.GetBoolean(key),
                () => file.GetIntegers(key), () => file.GetFloats(key), () => file.GetStrings(key)])
            {
                try
                {
                    read();
                }
                catch (InputException)
                {
                }
            }
        }
    }

    [Fact]
    public void The_writer_refuses_what_the_reader_would()
    {
        var writer = new GgufWriter();
        writer.Add("key", 1u);
        writer.AddTensor("x", GgufType.F32, [1], () => [1]);
        Assert.Throws<ArgumentException>(() => writer.Add("key", "again"));
        Assert.Throws<ArgumentException>(() => writer.AddTensor("x", GgufType.F32, [1], () => [1]));
        Assert.Throws<ArgumentException>(() => writer.AddTensor(new string('x', 64), GgufType.F32, [1], () => [1]));
        Assert.Throws<ArgumentException>(() => writer.AddTensor("y", GgufType.F32, [0], () => []));
        Assert.Throws<ArgumentException>(() => writer.AddTensor("y", GgufType.Q8_0, [32], () => new float[32]));
    }

    [Fact]
    public void A_failed_write_leaves_nothing_behind()
    {
        string path = _folder.File("half.gguf");
        var writer = new GgufWriter();
        writer.AddTensor("x", GgufType.F32, [2], () => [1]);
        Assert.Throws<InvalidOperationException>(() => writer.Save(path));
        Assert.Empty(Directory.GetFiles(_folder.Path));
        Assert.Throws<InputException>(() => new GgufWriter().Save(_folder.File("missing/x.gguf")));
    }
}
