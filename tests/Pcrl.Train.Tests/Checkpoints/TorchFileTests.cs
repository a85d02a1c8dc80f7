using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Text;
using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;

namespace Pcrl.Train.Tests.Checkpoints;

public sealed class TorchFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-torchfile-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string Write(byte[] bytes, string name = "model.pth")
    {
        string path = Path.Combine(_folder, name);
        File.WriteAllBytes(path, bytes);
        return path;
    }

    private static byte[] Bytes<T>(params T[] values) where T : unmanaged => MemoryMarshal.AsBytes<T>(values).ToArray();

    /// <summary>A state dict with every element type, a transposed view, two tensors on one storage, a scalar and an empty tensor.</summary>
    private static TorchFileBuilder Sample()
    {
        var file = new TorchFileBuilder();
        file.Storage("0", Bytes(0f, 1, 2, 3, 4, 5), 6);
        file.Storage("1", Bytes((Half)0.5f, (Half)(-2f)), 2);
        file.Storage("2", Bytes<ushort>(0x3fc0), 1);
        file.Storage("3", Bytes(7L, -8L), 2);
        file.Storage("4", Bytes(0.25), 1);
        file.Storage("5", [1, 0], 2);
        file.Dictionary(d =>
        {
            d.Text("matrix").Tensor("FloatStorage", "0", 0, [2, 3], [3, 1]);
            d.Text("transposed").Tensor("FloatStorage", "0", 0, [3, 2], [1, 3]);
            d.Text("column").Tensor("FloatStorage", "0", 1, [2], [3]);
            d.Text("repeated").Tensor("FloatStorage", "0", 5, [4], [0]);
            d.Text("half").Tensor("HalfStorage", "1", 0, [2], [1]);
            d.Text("brain").Tensor("BFloat16Storage", "2", 0, [], []);
            d.Text("long").Tensor("LongStorage", "3", 0, [2], [1]);
            d.Text("double").Tensor("DoubleStorage", "4", 0, [1], [1]);
            d.Text("flags").Tensor("BoolStorage", "5", 0, [2], [1]);
            d.Text("empty").Tensor("FloatStorage", "0", 0, [0, 3], [3, 1]);
        });
        return file;
    }

    public static TheoryData<string> Formats => new("zip", "legacy");

    private static byte[] File_(TorchFileBuilder builder, string format) => format == "zip" ? builder.Zip() : builder.Legacy();

    [Theory]
    [MemberData(nameof(Formats))]
    public void Tensors_are_read(string format)
    {
        using var file = Checkpoint.Open(Write(File_(Sample(), format)));
        Assert.Equal(10, file.Names.Count);
        Assert.Equal([2, 3], file.Shape("matrix"));
        Assert.Equal([0f, 1, 2, 3, 4, 5], file.ReadFloats("matrix"));
        Assert.Equal([0f, 3, 1, 4, 2, 5], file.ReadFloats("transposed"));
        Assert.Equal([1f, 4], file.ReadFloats("column"));
        Assert.Equal([5f, 5, 5, 5], file.ReadFloats("repeated"));
        Assert.Equal([0.5f, -2], file.ReadFloats("half"));
        Assert.Equal([1.5f], file.ReadFloats("brain"));
        Assert.Empty(file.Shape("brain"));
        Assert.Equal([7L, -8], file.ReadIntegers("long"));
        Assert.Equal([0.25f], file.ReadFloats("double"));
        Assert.Equal([1L, 0], file.ReadIntegers("flags"));
        Assert.Empty(file.ReadFloats("empty"));
        Assert.Contains("floating-point", Assert.Throws<InputException>(() => file.ReadFloats("long")).Message);
        Assert.Contains("nowhere", Assert.Throws<InputException>(() => file.ReadFloats("nowhere")).Message);
    }

    [Fact]
    public void Wrappers_and_parallel_prefixes_are_left_out()
    {
        var file = new TorchFileBuilder().Storage("0", Bytes(1f), 1);
        file.Dictionary(d => d.Text("epoch").Integer(3).Text("state_dict").Dictionary(
            inner => inner.Text("module.a.weight").Tensor("FloatStorage", "0", 0, [1], [1])));
        using var read = Checkpoint.Open(Write(file.Zip()));
        Assert.Equal(["a.weight"], read.Names);
    }

    [Fact]
    public void Views_of_the_legacy_format_are_read()
    {
        var file = new TorchFileBuilder().Storage("0", Bytes(0f, 1, 2, 3), 4);
        file.Dictionary(d => d.Text("view").Tensor("FloatStorage", "0", 1, [1], [1], view: [2, 2]));
        using var read = Checkpoint.Open(Write(file.Legacy()));
        Assert.Equal([3f], read.ReadFloats("view"));
    }

    [Theory]
    [InlineData("os", "system")]
    [InlineData("posix", "system")]
    [InlineData("builtins", "eval")]
    [InlineData("__builtin__", "getattr")]
    [InlineData("torch", "load")]
    [InlineData("torch._utils", "_rebuild_tensor_v2.__globals__")]
    [InlineData("collections", "OrderedDict.fromkeys")]
    public void Other_functions_are_refused_by_name(string module, string name)
    {
        string canary = Path.Combine(_folder, "canary");
        foreach (string format in new[] { "zip", "legacy" })
        {
            var file = new TorchFileBuilder().Global(module, name).Op('(').Text($"touch {canary}").Op('t').Op('R');
            var error = Assert.Throws<InputException>(() => Checkpoint.Open(Write(File_(file, format))));
            Assert.Contains($"{module}.{name}", error.Message);
        }
        Assert.False(File.Exists(canary));
    }

    [Theory]
    [InlineData("8004", "6f73", "73797374656d")] // STACK_GLOBAL of os.system
    public void Functions_named_through_the_stack_are_refused_too(string start, string module, string name)
    {
        byte[] m = System.Convert.FromHexString(module), n = System.Convert.FromHexString(name);
        var file = new TorchFileBuilder().Raw([.. System.Convert.FromHexString(start), 0x8c, (byte)m.Length, .. m, 0x8c, (byte)n.Length, .. n, 0x93]);
        Assert.Contains("os.system", Assert.Throws<InputException>(() => Checkpoint.Open(Write(file.Zip()))).Message);
    }

    public static TheoryData<string, byte[]> HostilePickles => new()
    {
        { "INST", "(S'touch x'\nios\nsystem\n"u8.ToArray() },
        { "OBJ", "(oXXXX"u8.ToArray() },
        { "NEWOBJ", [(byte)')', (byte)')', 0x81] },
        { "EXT1", [0x82, 1] },
        { "text of 4 GB", [(byte)'X', 0xff, 0xff, 0xff, 0xff, (byte)'a'] },
        { "text of 2^63 bytes", [0x8d, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff] },
        { "bytes of 4 GB", [(byte)'B', 0xff, 0xff, 0xff, 0xff] },
        { "memo index of 4 billion, then nothing", [(byte)'N', (byte)'r', 0xff, 0xff, 0xff, 0xff, (byte)'j', 1, 0, 0, 0] },
        { "pop of nothing", [(byte)'0', (byte)'0'] },
        { "unclosed mark", [(byte)'(', (byte)'('] },
        { "append to a number", [(byte)'K', 1, (byte)'K', 2, (byte)'a'] },
        { "build on a tuple", [(byte)')', (byte)'}', (byte)'b'] },
        { "reduce of a string", [(byte)'U', 2, (byte)'o', (byte)'s', (byte)')', (byte)'R'] },
        { "odd dictionary", [(byte)'}', (byte)'(', (byte)'K', 1, (byte)'u'] },
        { "no key", [(byte)'}', (byte)'N', (byte)'N', (byte)'s'] },
        { "newer protocol", [0x80, 5] },
        { "persistent id of text", "Pstorage\n"u8.ToArray() },
        { "list in itself", [(byte)']', (byte)'q', 0, (byte)'h', 0, (byte)'a'] },
        { "dictionary in itself", [(byte)'}', (byte)'q', 0, (byte)'U', 1, (byte)'a', (byte)'h', 0, (byte)'s'] },
        { "a number for a root", [(byte)'K', 1] },
    };

    [Theory]
    [MemberData(nameof(HostilePickles))]
    public void Hostile_pickles_end_in_one_line(string what, byte[] pickle)
    {
        Assert.NotEmpty(what);
        foreach (string format in new[] { "zip", "legacy" })
        {
            var error = Assert.Throws<InputException>(() => Checkpoint.Open(Write(File_(new TorchFileBuilder().Raw(pickle), format))));
            Assert.DoesNotContain('\n', error.Message);
        }
    }

    [Fact]
    public void Doubling_references_cost_nothing()
    {
        // Thirty dictionaries, each holding the one before twice: a billion paths, thirty visits.
        var file = new TorchFileBuilder().Storage("0", Bytes(1f), 1);
        file.Dictionary(d => d.Text("w").Tensor("FloatStorage", "0", 0, [1], [1])).Raw((byte)'q', 0);
        for (byte i = 1; i <= 30; i++)
            file.Op('}').Op('(').Text("a").Raw((byte)'h', (byte)(i - 1)).Text("b").Raw((byte)'h', (byte)(i - 1)).Op('u').Raw((byte)'q', i);
        using var read = Checkpoint.Open(Write(file.Zip()));
        Assert.Single(read.Names);
    }

    [Theory]
    [InlineData(0, new long[] { 7 }, new long[] { 1 })]
    [InlineData(1, new long[] { 6 }, new long[] { 1 })]
    [InlineData(-1, new long[] { 1 }, new long[] { 1 })]
    [InlineData(0, new long[] { 2, 3 }, new long[] { 4, 1 })]
    [InlineData(0, new long[] { -1 }, new long[] { 1 })]
    [InlineData(5, new long[] { 2 }, new long[] { -1 })]
    [InlineData(0, new long[] { long.MaxValue, long.MaxValue }, new long[] { 0, 0 })]
    [InlineData(0, new long[] { 1L << 40 }, new long[] { 0 })]
    [InlineData(0, new long[] { 2 }, new long[] { long.MaxValue })]
    [InlineData(0, new long[] { 2, 3 }, new long[] { 1 })]
    public void Tensors_that_reach_outside_are_refused(long offset, long[] shape, long[] strides)
    {
        var file = new TorchFileBuilder().Storage("0", Bytes(0f, 1, 2, 3, 4, 5), 6);
        file.Dictionary(d => d.Text("w").Tensor("FloatStorage", "0", offset, shape, strides));
        Assert.Throws<InputException>(() => Checkpoint.Open(Write(file.Zip())));
        Assert.Throws<InputException>(() => Checkpoint.Open(Write(file.Legacy())));
    }

    [Fact]
    public void A_storage_that_claims_more_than_it_holds_is_refused()
    {
        var file = new TorchFileBuilder().Storage("0", Bytes(0f), 1L << 50);
        file.Dictionary(d => d.Text("w").Tensor("FloatStorage", "0", 0, [1], [1]));
        Assert.Throws<InputException>(() => Checkpoint.Open(Write(file.Zip())));
        Assert.Throws<InputException>(() => Checkpoint.Open(Write(file.Legacy())));
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void Every_truncation_is_refused(string format)
    {
        byte[] whole = File_(Sample(), format);
        for (int length = 0; length < whole.Length; length += 1 + whole.Length / 200)
            Assert.Throws<InputException>(() => Checkpoint.Open(Write(whole[..length])));
    }

    [Theory]
    [MemberData(nameof(Formats))]
    public void No_flipped_byte_does_harm(string format)
    {
        byte[] whole = File_(Sample(), format);
        var random = new Random(5);
        for (int i = 0; i < 400; i++)
        {
            byte[] damaged = [.. whole];
            damaged[random.Next(damaged.Length)] ^= (byte)(1 << random.Next(8));
            try
            {
                using var file = Checkpoint.Open(Write(damaged));
                foreach (string name in file.Names)
                {
                    try { file.ReadFloats(name); }
                    catch (InputException) { }
                }
            }
            catch (InputException)
            {
            }
        }
    }

    [Fact]
    public void Paths_in_the_zip_are_only_names()
    {
        byte[] zip = Sample().Zip("archive", ("../../escaped", [1]), ("/tmp/escaped-pcrl", [1]));
        string[] before = Directory.GetFileSystemEntries(_folder);
        using (var file = Checkpoint.Open(Write(zip)))
            Assert.Equal(10, file.Names.Count);
        Assert.Equal(before.Length + 1, Directory.GetFileSystemEntries(_folder).Length);
        Assert.False(File.Exists("/tmp/escaped-pcrl"));
    }

    [Fact]
    public void Compressed_and_TorchScript_archives_are_refused_by_name()
    {
        var stream = new MemoryStream();
        using (var zip = new ZipArchive(stream, ZipArchiveMode.Create, leaveOpen: true))
        {
            using var entry = zip.CreateEntry("archive/data.pkl", CompressionLevel.Optimal).Open();
            entry.Write(new byte[100_000]);
        }
        Assert.Contains("compressed", Assert.Throws<InputException>(() => Checkpoint.Open(Write(stream.ToArray()))).Message);
        byte[] script = Sample().Zip("m", ("m/code/__torch__.py", Encoding.ASCII.GetBytes("import os")));
        Assert.Contains("TorchScript", Assert.Throws<InputException>(() => Checkpoint.Open(Write(script))).Message);
    }

    [Fact]
    public void Other_files_are_refused()
    {
        Assert.Throws<InputException>(() => Checkpoint.Open(Write("hello, this is no checkpoint"u8.ToArray())));
        Assert.Throws<InputException>(() => Checkpoint.Open(Path.Combine(_folder, "missing.pth")));
        Assert.Throws<InputException>(() => Checkpoint.Open(_folder + "/none"));
    }
}
