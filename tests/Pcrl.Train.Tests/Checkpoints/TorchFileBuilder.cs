using System.Buffers.Binary;
using System.IO.Compression;
using System.Text;

namespace Pcrl.Train.Tests.Checkpoints;

/// <summary>Writes files as torch.save does (pickle protocol 2), and others that it never would.</summary>
internal sealed class TorchFileBuilder
{
    private readonly MemoryStream _pickle = new();
    private readonly Dictionary<string, byte[]> _storages = [];
    private readonly Dictionary<string, long> _counts = [];

    public TorchFileBuilder() => Raw(0x80, 2);

    public TorchFileBuilder Raw(params byte[] bytes)
    {
        _pickle.Write(bytes);
        return this;
    }

    public TorchFileBuilder Op(char code) => Raw((byte)code);

    public TorchFileBuilder Global(string module, string name) => Raw(Encoding.UTF8.GetBytes($"c{module}\n{name}\n"));

    public TorchFileBuilder Text(string text)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        Op('X').Int32(bytes.Length);
        return Raw(bytes);
    }

    public TorchFileBuilder Integer(long value)
    {
        var bytes = new byte[10];
        (bytes[0], bytes[1]) = (0x8a, 8);
        BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(2), value);
        return Raw(bytes);
    }

    private void Int32(int value)
    {
        var bytes = new byte[4];
        BinaryPrimitives.WriteInt32LittleEndian(bytes, value);
        Raw(bytes);
    }

    public TorchFileBuilder Tuple(params long[] values)
    {
        Op('(');
        foreach (long value in values)
            Integer(value);
        return Op('t');
    }

    /// <summary>The data of a storage; tensors refer to it by its key.</summary>
    public TorchFileBuilder Storage(string key, byte[] data, long count)
    {
        _storages[key] = data;
        _counts[key] = count;
        return this;
    }

    public TorchFileBuilder Tensor(string storageType, string key, long offset, long[] shape, long[] strides, long[]? view = null)
    {
        Global("torch._utils", "_rebuild_tensor_v2").Op('(').Op('(').Text("storage").Global("torch", storageType).Text(key).Text("cpu").Integer(_counts[key]);
        if (view is not null)
            Op('(').Text("view").Integer(view[0]).Integer(view[1]).Op('t');
        Op('t').Op('Q').Integer(offset).Tuple(shape).Tuple(strides).Raw(0x89);
        return Global("collections", "OrderedDict").Op(')').Op('R').Op('t').Op('R');
    }

    /// <summary>OrderedDict with the content that <paramref name="items"/> writes as key, value, key, value, ….</summary>
    public TorchFileBuilder Dictionary(Action<TorchFileBuilder> items)
    {
        Global("collections", "OrderedDict").Op(')').Op('R').Op('(');
        items(this);
        return Op('u');
    }

    public byte[] Pickle() => [.. _pickle.ToArray(), (byte)'.'];

    public byte[] Zip(string folder = "archive", params (string Name, byte[] Data)[] more)
    {
        var stream = new MemoryStream();
        using (var zip = new ZipArchive(stream, ZipArchiveMode.Create, leaveOpen: true))
        {
            void Add(string name, byte[] data)
            {
                using var entry = zip.CreateEntry(name, CompressionLevel.NoCompression).Open();
                entry.Write(data);
            }
            Add($"{folder}/data.pkl", Pickle());
            Add($"{folder}/byteorder", "little"u8.ToArray());
            foreach (var (key, data) in _storages)
                Add($"{folder}/data/{key}", data);
            foreach (var (name, data) in more)
                Add(name, data);
        }
        return stream.ToArray();
    }

    public byte[] Legacy()
    {
        byte[] magic = System.Convert.FromHexString("6cfc9c46f9206aa85019"); // 0x1950a86a20f9469cfc6c, little-endian
        var file = new MemoryStream();
        file.Write([0x80, 2, 0x8a, 10, .. magic, (byte)'.']);
        file.Write([0x80, 2, (byte)'M', 0xe9, 0x03, (byte)'.']);
        file.Write(new TorchFileBuilder().Op('}').Op('(').Text("little_endian").Raw(0x88).Op('u').Pickle());
        file.Write(Pickle());
        var keys = new TorchFileBuilder().Op(']').Op('(');
        foreach (string key in _storages.Keys)
            keys.Text(key);
        file.Write(keys.Op('e').Pickle());
        foreach (var (key, data) in _storages)
        {
            file.Write(BitConverter.GetBytes(_counts[key]));
            file.Write(data);
        }
        return file.ToArray();
    }
}
