using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;
using System.Text.Json;
using Pcrl.Runtime;

namespace Pcrl.Train.Checkpoints;

/// <summary>One tensor of a safetensors file.</summary>
/// <param name="Name">Parameter name, e.g. <c>trunk.conv1.weight</c>.</param>
/// <param name="Type">Element type as the format spells it: F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL.</param>
/// <param name="Shape">Dimensions, outermost first; empty for a scalar.</param>
/// <param name="Offset">First byte, from the start of the file.</param>
/// <param name="ByteCount">Bytes of data.</param>
public sealed record SafetensorsEntry(string Name, string Type, long[] Shape, long Offset, long ByteCount)
{
    /// <summary>Product of <see cref="Shape"/>.</summary>
    public long ElementCount => Shape.Aggregate(1L, (a, b) => a * b);
}

/// <summary>
/// A safetensors file, memory-mapped. Everything the header claims is checked against the file's length on opening:
/// a hostile header is refused before a byte of data is touched.
/// </summary>
public sealed unsafe class SafetensorsFile : ITensorSource
{
    private const long MaximumHeaderBytes = 100_000_000; // the limit of the reference implementation
    private readonly MemoryMappedFile _mapping;
    private readonly MemoryMappedViewAccessor _view;
    private readonly byte* _start;
    private readonly Dictionary<string, SafetensorsEntry> _entries;

    private SafetensorsFile(
        string path, MemoryMappedFile mapping, MemoryMappedViewAccessor view, byte* start,
        Dictionary<string, SafetensorsEntry> entries, IReadOnlyDictionary<string, string> metadata)
    {
        Path = path;
        _mapping = mapping;
        _view = view;
        _start = start;
        _entries = entries;
        Metadata = metadata;
    }

    /// <summary>The file as it was named on opening.</summary>
    public string Path { get; }

    /// <summary>All tensors by name.</summary>
    public IReadOnlyDictionary<string, SafetensorsEntry> Tensors => _entries;

    /// <summary>The <c>__metadata__</c> strings; empty if the file has none.</summary>
    public IReadOnlyDictionary<string, string> Metadata { get; }

    /// <summary>Opens and checks a file.</summary>
    /// <exception cref="InputException">Missing, truncated, or a header that is not valid safetensors.</exception>
    public static SafetensorsFile Open(string path)
    {
        MemoryMappedFile? mapping = null;
        MemoryMappedViewAccessor? view = null;
        try
        {
            // Of the file itself: the caches of model hubs hold links.
            long length = new FileInfo(File.ResolveLinkTarget(path, returnFinalTarget: true)?.FullName ?? path).Length;
            if (length < 8)
                throw new InputException(path, "is too short to be a safetensors file");
            mapping = MemoryMappedFile.CreateFromFile(path, FileMode.Open, null, 0, MemoryMappedFileAccess.Read);
            view = mapping.CreateViewAccessor(0, length, MemoryMappedFileAccess.Read);
            byte* start = null;
            view.SafeMemoryMappedViewHandle.AcquirePointer(ref start);
            long headerBytes = BinaryPrimitives.ReadInt64LittleEndian(new ReadOnlySpan<byte>(start, 8));
            if (headerBytes < 2 || headerBytes > MaximumHeaderBytes || headerBytes > length - 8)
                throw new InputException(path, $"is not a safetensors file (header of {headerBytes} bytes in a file of {length})");
            var (entries, metadata) = ParseHeader(path, new ReadOnlySpan<byte>(start + 8, (int)headerBytes), 8 + headerBytes, length);
            return new SafetensorsFile(path, mapping, view, start, entries, metadata);
        }
        catch (Exception e)
        {
            view?.Dispose();
            mapping?.Dispose();
            if (e is IOException or UnauthorizedAccessException or ArgumentException)
                throw InputException.Unreadable(path, e);
            throw;
        }
    }

    private static (Dictionary<string, SafetensorsEntry>, IReadOnlyDictionary<string, string>) ParseHeader(
        string path, ReadOnlySpan<byte> header, long dataStart, long fileLength)
    {
        var entries = new Dictionary<string, SafetensorsEntry>();
        var metadata = new Dictionary<string, string>();
        try
        {
            var reader = new Utf8JsonReader(header);
            using var document = JsonDocument.ParseValue(ref reader);
            foreach (var property in document.RootElement.EnumerateObject())
            {
                if (property.Name == "__metadata__")
                {
                    foreach (var item in property.Value.EnumerateObject())
                        metadata[item.Name] = item.Value.GetString() ?? "";
                    continue;
                }
                var entry = ParseEntry(path, property, dataStart, fileLength);
                if (!entries.TryAdd(entry.Name, entry))
                    throw new InputException(path, $"tensor {entry.Name} stands in the header twice");
            }
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException or FormatException)
        {
            throw new InputException(path, "has a header that is not valid safetensors JSON", e);
        }
        RefuseOverlaps(path, entries.Values);
        return (entries, metadata);
    }

    private static SafetensorsEntry ParseEntry(string path, JsonProperty property, long dataStart, long fileLength)
    {
        string name = property.Name;
        string type = property.Value.GetProperty("dtype").GetString() ?? "";
        int elementBytes = ElementTypes.Size(type)
            ?? throw new InputException(path, $"tensor {name} has the unknown element type '{type}'");
        long[] shape = [.. property.Value.GetProperty("shape").EnumerateArray().Select(d => d.GetInt64())];
        var offsets = property.Value.GetProperty("data_offsets");
        if (offsets.GetArrayLength() != 2)
            throw new InputException(path, $"tensor {name} needs two data offsets");
        long begin = offsets[0].GetInt64(), end = offsets[1].GetInt64();
        if (begin < 0 || end < begin || end > fileLength - dataStart)
            throw new InputException(path, $"tensor {name} lies outside the file (bytes {begin} to {end}); is the file truncated?");
        long elements = 1;
        foreach (long dimension in shape)
        {
            if (dimension < 0 || (dimension > 0 && elements > long.MaxValue / 16 / dimension))
                throw new InputException(path, $"tensor {name} has an impossible shape");
            elements *= dimension;
        }
        if (elements * elementBytes != end - begin)
            throw new InputException(path, $"tensor {name} claims {elements} elements of {type} but holds {end - begin} bytes");
        return new SafetensorsEntry(name, type, shape, dataStart + begin, end - begin);
    }

    private static void RefuseOverlaps(string path, IEnumerable<SafetensorsEntry> entries)
    {
        long previousEnd = 0;
        foreach (var entry in entries.Where(e => e.ByteCount > 0).OrderBy(e => e.Offset))
        {
            if (entry.Offset < previousEnd)
                throw new InputException(path, $"tensor {entry.Name} overlaps another one");
            previousEnd = entry.Offset + entry.ByteCount;
        }
    }

    /// <summary>The entry of a tensor that must be there.</summary>
    /// <exception cref="InputException">No such tensor.</exception>
    public SafetensorsEntry Entry(string name) => _entries.TryGetValue(name, out var entry)
        ? entry
        : throw new InputException(Path, $"has no tensor {name}");

    /// <inheritdoc/>
    public IReadOnlyCollection<string> Names => _entries.Keys;

    /// <inheritdoc/>
    public IReadOnlyList<long> Shape(string name) => Entry(name).Shape;

    /// <summary>The bytes of a tensor, in place. Valid until <see cref="Dispose"/>; at most 2 GiB at a time.</summary>
    public ReadOnlySpan<byte> Bytes(string name)
    {
        var entry = Entry(name);
        return new ReadOnlySpan<byte>(_start + entry.Offset, checked((int)entry.ByteCount));
    }

    /// <summary>A floating-point tensor (F64, F32, F16, BF16) as float32, row-major.</summary>
    /// <exception cref="InputException">Missing or not floating-point.</exception>
    public float[] ReadFloats(string name)
    {
        var entry = Entry(name);
        return ElementTypes.ToFloats(entry.Type, Bytes(name))
            ?? throw new InputException(Path, $"tensor {name} is {entry.Type}, floating-point was expected");
    }

    /// <inheritdoc/>
    public void ReadFloats(string name, long first, Span<float> values)
    {
        var entry = Entry(name);
        int size = ElementTypes.Size(entry.Type)!.Value;
        if (first < 0 || first > entry.ElementCount - values.Length)
            throw new InputException(Path, $"tensor {name} has {entry.ElementCount} values, {first + values.Length} are needed");
        byte* start = _start + entry.Offset + first * size;
        MappedMemory.Expect(start, (long)values.Length * size);
        if (!ElementTypes.TryToFloats(entry.Type, new ReadOnlySpan<byte>(start, checked(values.Length * size)), values))
            throw new InputException(Path, $"tensor {name} is {entry.Type}, floating-point was expected");
        MappedMemory.Release(start, (long)values.Length * size);
    }

    /// <summary>An integer tensor (I64, I32, I16, I8, U8, BOOL) as 64-bit integers, row-major.</summary>
    /// <exception cref="InputException">Missing or not integer.</exception>
    public long[] ReadIntegers(string name)
    {
        var entry = Entry(name);
        return ElementTypes.ToIntegers(entry.Type, Bytes(name))
            ?? throw new InputException(Path, $"tensor {name} is {entry.Type}, integers were expected");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _view.SafeMemoryMappedViewHandle.ReleasePointer();
        _view.Dispose();
        _mapping.Dispose();
    }
}
