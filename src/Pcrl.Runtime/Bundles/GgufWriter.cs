using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text;

namespace Pcrl.Runtime.Bundles;

/// <summary>
/// Writes a GGUF file (version 3), whole or not at all. Tensors are described first and fetched one at a time while writing, so
/// that a model larger than memory can pass through.
/// </summary>
public sealed partial class GgufWriter
{
    private const int Alignment = 32;
    private readonly List<(string Key, Action<Stream> Write)> _metadata = [];
    private readonly List<PendingTensor> _tensors = [];

    /// <summary>A string.</summary>
    public void Add(string key, string value) => Add(key, GgufValueType.String, s => WriteString(s, value));

    /// <summary>A truth value, e.g. <c>tokenizer.ggml.add_bos_token</c>.</summary>
    public void Add(string key, bool value) => Add(key, GgufValueType.Bool, s => s.WriteByte(value ? (byte)1 : (byte)0));

    /// <summary>An unsigned 32-bit number, the type in which llama.cpp wants sizes and token ids.</summary>
    public void Add(string key, uint value) => Add(key, GgufValueType.UInt32, s => WriteUInt32(s, value));

    /// <summary>A 32-bit floating-point number.</summary>
    public void Add(string key, float value) => Add(key, GgufValueType.Float32, s => WriteUInt32(s, BitConverter.SingleToUInt32Bits(value)));

    /// <summary>An array of strings.</summary>
    public void Add(string key, IReadOnlyList<string> values) => AddArray(key, GgufValueType.String, values.Count, s =>
    {
        foreach (string value in values)
            WriteString(s, value);
    });

    /// <summary>An array of signed 32-bit numbers.</summary>
    public void Add(string key, IReadOnlyList<int> values) =>
        AddArray(key, GgufValueType.Int32, values.Count, s => s.Write(MemoryMarshal.AsBytes<int>(values.ToArray())));

    /// <summary>An array of 32-bit floating-point numbers.</summary>
    public void Add(string key, IReadOnlyList<float> values) =>
        AddArray(key, GgufValueType.Float32, values.Count, s => s.Write(MemoryMarshal.AsBytes<float>(values.ToArray())));

    /// <summary>A tensor; <paramref name="values"/> is called once, when its turn to be written comes.</summary>
    /// <param name="name">Unique, at most 63 bytes of UTF-8.</param>
    /// <param name="type">F32, F16 (rounded to nearest even) or BF16 (the same).</param>
    /// <param name="shape">1 to 4 dimensions, outermost first.</param>
    /// <param name="values">Gives exactly as many row-major values as the shape has elements.</param>
    public void AddTensor(string name, GgufType type, ReadOnlySpan<long> shape, Func<float[]> values)
    {
        if (type is not (GgufType.F32 or GgufType.F16 or GgufType.BF16))
            throw new ArgumentException($"values are not encoded as {type}", nameof(type));
        AddTensor(name, type, shape, stream => WriteValues(stream, type, values()));
    }

    /// <summary>A tensor whose data is encoded already, for instance quantised.</summary>
    /// <param name="name">Unique, at most 63 bytes of UTF-8.</param>
    /// <param name="type">How <paramref name="write"/> encodes.</param>
    /// <param name="shape">1 to 4 dimensions, outermost first; the innermost is a multiple of the type's block.</param>
    /// <param name="write">Writes exactly the bytes of the tensor.</param>
    public void AddTensor(string name, GgufType type, ReadOnlySpan<long> shape, Action<Stream> write)
    {
        if (Encoding.UTF8.GetByteCount(name) is 0 or > GgufParser.MaximumNameBytes || _tensors.Any(t => t.Name == name))
            throw new ArgumentException($"tensor name '{name}' is too long or taken", nameof(name));
        long[] dimensions = shape.ToArray();
        var (blockElements, blockBytes) = GgufTensor.Block(type)!.Value;
        if (dimensions.Length is < 1 or > 4 || dimensions.Any(d => d <= 0) || dimensions[^1] % blockElements != 0)
            throw new ArgumentException($"tensor {name} cannot have the shape [{string.Join(", ", dimensions)}]", nameof(shape));
        long bytes = dimensions.Aggregate(1L, (a, b) => checked(a * b)) / blockElements * blockBytes;
        _tensors.Add(new PendingTensor(name, type, dimensions, bytes, write));
    }

    /// <summary>Writes everything added so far.</summary>
    /// <exception cref="InputException">The file cannot be written.</exception>
    public void Save(string path) => AtomicFile.Write(path, stream =>
    {
        WriteHeader(stream);
        foreach (var tensor in _tensors)
            WriteTensor(stream, tensor);
    });

    private void WriteHeader(Stream stream)
    {
        WriteUInt32(stream, GgufParser.Magic);
        WriteUInt32(stream, 3);
        WriteUInt64(stream, (ulong)_tensors.Count);
        WriteUInt64(stream, (ulong)_metadata.Count);
        foreach (var (_, write) in _metadata)
            write(stream);
        long offset = 0;
        foreach (var tensor in _tensors)
        {
            WriteString(stream, tensor.Name);
            WriteUInt32(stream, (uint)tensor.Shape.Length);
            foreach (long dimension in tensor.Shape.Reverse())
                WriteUInt64(stream, (ulong)dimension);
            WriteUInt32(stream, (uint)tensor.Type);
            WriteUInt64(stream, (ulong)offset);
            offset = Aligned(offset + tensor.Bytes);
        }
        Pad(stream);
    }

    private static void WriteTensor(Stream stream, PendingTensor tensor)
    {
        long start = stream.Position;
        tensor.Write(stream);
        if (stream.Position - start != tensor.Bytes)
        {
            throw new InvalidOperationException(
                $"tensor {tensor.Name} got {stream.Position - start} bytes for {tensor.Type} [{string.Join(", ", tensor.Shape)}]");
        }
        Pad(stream);
    }

    private sealed record PendingTensor(string Name, GgufType Type, long[] Shape, long Bytes, Action<Stream> Write);

    private static void WriteValues(Stream stream, GgufType type, float[] values)
    {
        const int chunk = 1 << 16; // spans of bytes end at 2 GiB, tensors don't
        var bytes = new byte[GgufTensor.Bytes(type, Math.Min(chunk, values.Length))];
        for (int start = 0; start < values.Length; start += chunk)
        {
            var part = values.AsSpan(start, Math.Min(chunk, values.Length - start));
            var encoded = bytes.AsSpan(0, (int)GgufTensor.Bytes(type, part.Length));
            FloatFormats.Narrow(type, part, encoded);
            stream.Write(encoded);
        }
    }

    private void AddArray(string key, GgufValueType type, int count, Action<Stream> write) => Add(key, GgufValueType.Array, s =>
    {
        WriteUInt32(s, (uint)type);
        WriteUInt64(s, (ulong)count);
        write(s);
    });

    private void Add(string key, GgufValueType type, Action<Stream> write)
    {
        if (_metadata.Any(m => m.Key == key))
            throw new ArgumentException($"metadata {key} was added twice", nameof(key));
        _metadata.Add((key, s =>
        {
            WriteString(s, key);
            WriteUInt32(s, (uint)type);
            write(s);
        }));
    }

    private static long Aligned(long position) => (position + Alignment - 1) / Alignment * Alignment;

    private static void Pad(Stream stream)
    {
        Span<byte> zeros = stackalloc byte[Alignment];
        zeros.Clear();
        stream.Write(zeros[..(int)(Aligned(stream.Position) - stream.Position)]);
    }

    private static void WriteString(Stream stream, string value)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(value);
        WriteUInt64(stream, (ulong)bytes.Length);
        stream.Write(bytes);
    }

    private static void WriteUInt32(Stream stream, uint value)
    {
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, value);
        stream.Write(bytes);
    }

    private static void WriteUInt64(Stream stream, ulong value)
    {
        Span<byte> bytes = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        stream.Write(bytes);
    }
}
