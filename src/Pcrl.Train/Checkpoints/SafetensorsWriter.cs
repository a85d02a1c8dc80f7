using System.Buffers.Binary;
using System.Runtime.InteropServices;
using System.Text.Json;
using Pcrl.Runtime;

namespace Pcrl.Train.Checkpoints;

/// <summary>
/// Writes a safetensors file, whole or not at all. Tensors are described first and fetched one at a time while writing,
/// so that a model larger than memory can pass through.
/// </summary>
public sealed class SafetensorsWriter
{
    private readonly List<(string Name, string Type, long[] Shape, Action<Stream> Write)> _tensors = [];
    private readonly Dictionary<string, string> _metadata = [];

    /// <summary>A string for the file's <c>__metadata__</c>.</summary>
    public void AddMetadata(string key, string value) => _metadata[key] = value;

    /// <summary>An F32 tensor; <paramref name="values"/> is called once, when its turn to be written comes.</summary>
    /// <param name="name">Unique name.</param>
    /// <param name="shape">Dimensions, outermost first.</param>
    /// <param name="values">Gives exactly as many row-major values as the shape has elements.</param>
    public void AddFloats(string name, ReadOnlySpan<long> shape, Func<float[]> values)
    {
        long[] dimensions = shape.ToArray();
        Add(name, "F32", dimensions, stream =>
        {
            float[] data = values();
            if (data.LongLength != dimensions.Aggregate(1L, (a, b) => a * b))
                throw new InvalidOperationException($"tensor {name} has {data.LongLength} values for shape [{string.Join(", ", dimensions)}]");
            stream.Write(MemoryMarshal.AsBytes<float>(data));
        });
    }

    /// <summary>An I64 tensor.</summary>
    public void AddIntegers(string name, ReadOnlySpan<long> shape, long[] values) =>
        Add(name, "I64", shape.ToArray(), stream => stream.Write(MemoryMarshal.AsBytes<long>(values)));

    private void Add(string name, string type, long[] shape, Action<Stream> write)
    {
        if (_tensors.Any(t => t.Name == name))
            throw new ArgumentException($"tensor {name} was added twice", nameof(name));
        _tensors.Add((name, type, shape, write));
    }

    /// <summary>Writes everything added so far.</summary>
    /// <exception cref="InputException">The file cannot be written.</exception>
    public void Save(string path) => AtomicFile.Write(path, stream =>
    {
        byte[] header = Header();
        Span<byte> length = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, header.Length);
        stream.Write(length);
        stream.Write(header);
        foreach (var tensor in _tensors)
            tensor.Write(stream);
    });

    private byte[] Header()
    {
        using var buffer = new MemoryStream();
        using (var json = new Utf8JsonWriter(buffer))
        {
            json.WriteStartObject();
            if (_metadata.Count > 0)
            {
                json.WriteStartObject("__metadata__");
                foreach (var (key, value) in _metadata)
                    json.WriteString(key, value);
                json.WriteEndObject();
            }
            long offset = 0;
            foreach (var (name, type, shape, _) in _tensors)
            {
                long bytes = shape.Aggregate(1L, (a, b) => a * b) * ElementTypes.Size(type)!.Value;
                json.WriteStartObject(name);
                json.WriteString("dtype", type);
                json.WriteStartArray("shape");
                foreach (long dimension in shape)
                    json.WriteNumberValue(dimension);
                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(offset);
                json.WriteNumberValue(offset += bytes);
                json.WriteEndArray();
                json.WriteEndObject();
            }
            json.WriteEndObject();
        }
        // Readers in other languages map the data in place: keep it aligned to 8 bytes, as the format asks.
        int padding = (8 - (int)(buffer.Length % 8)) % 8;
        buffer.Write("       "u8[..padding]);
        return buffer.ToArray();
    }
}
