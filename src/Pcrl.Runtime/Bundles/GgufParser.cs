using System.Buffers.Binary;
using System.Text;

namespace Pcrl.Runtime.Bundles;

/// <summary>Where a metadata value lies in the file: a scalar, a string, or the elements of an array.</summary>
internal readonly record struct GgufValue(GgufValueType Type, bool IsArray, long Offset, int Count);

/// <summary>What <see cref="GgufFile"/> keeps of a header.</summary>
internal sealed record GgufHeader(Dictionary<string, GgufValue> Metadata, Dictionary<string, GgufTensor> Tensors);

/// <summary>
/// Reads a GGUF header and believes nothing: each count and length is held against the bytes that are left before anything is
/// allocated. Stricter than the format where llama.cpp is too (contiguous tensors, no nested arrays, no empty tensors),
/// because llama.cpp ends the process where we can still say what is wrong.
/// </summary>
internal unsafe ref struct GgufParser
{
    public const uint Magic = 0x46554747; // "GGUF", little-endian
    public const int MaximumNameBytes = 63; // ggml keeps names in 64 bytes with a terminator
    private const int MaximumKeyBytes = 1024;
    private const int DefaultAlignment = 32;
    private static readonly UTF8Encoding StrictUtf8 = new(false, throwOnInvalidBytes: true);

    private readonly string _path;
    private readonly byte* _start;
    private readonly long _length;
    private long _position;

    private GgufParser(string path, byte* start, long length)
    {
        _path = path;
        _start = start;
        _length = length;
    }

    public static GgufHeader Parse(string path, byte* start, long length) => new GgufParser(path, start, length).Header();

    private GgufHeader Header()
    {
        uint magic = ReadUInt32("magic"), version = ReadUInt32("version");
        if (magic != Magic)
            throw Bad("is not a GGUF file");
        if (BinaryPrimitives.ReverseEndianness(version) == 3)
            throw Bad("is a big-endian GGUF file, which is not supported");
        if (version != 3)
            throw Bad($"has GGUF version {version}, only version 3 is supported");
        // The smallest tensor entry has 28 bytes (length, one character, one dimension), the smallest value 14.
        long tensorCount = ReadCount("tensor count", 28), valueCount = ReadCount("metadata count", 14);
        var metadata = ReadMetadata(valueCount);
        int alignment = Alignment(metadata);
        var entries = new List<(string Name, GgufType Type, long[] Shape, long Offset, long Bytes)>();
        for (long i = 0; i < tensorCount; i++)
            entries.Add(ReadTensor());
        return new GgufHeader(metadata, Place(entries, alignment));
    }

    private Dictionary<string, GgufValue> ReadMetadata(long count)
    {
        var metadata = new Dictionary<string, GgufValue>();
        for (long i = 0; i < count; i++)
        {
            string key = ReadString("metadata key", MaximumKeyBytes);
            var type = (GgufValueType)ReadUInt32(key);
            bool isArray = type == GgufValueType.Array;
            int elements = 1;
            if (isArray)
            {
                type = (GgufValueType)ReadUInt32(key);
                if (type == GgufValueType.Array)
                    throw Bad($"has nested arrays in {Show(key)}");
                elements = checked((int)Math.Min(ReadCount(key, ScalarBytes(type, key)), Array.MaxLength));
            }
            var value = new GgufValue(type, isArray, _position, elements);
            if (type == GgufValueType.String)
                SkipStrings(elements, key);
            else
                Take((long)elements * ScalarBytes(type, key), key);
            if (type == GgufValueType.Bool)
                CheckBooleans(value, key);
            if (!metadata.TryAdd(key, value))
                throw Bad($"has {Show(key)} twice");
        }
        return metadata;
    }

    /// <summary>Bytes of one element; for strings the least that one takes.</summary>
    private readonly int ScalarBytes(GgufValueType type, string key) => type switch
    {
        GgufValueType.UInt8 or GgufValueType.Int8 or GgufValueType.Bool => 1,
        GgufValueType.UInt16 or GgufValueType.Int16 => 2,
        GgufValueType.UInt32 or GgufValueType.Int32 or GgufValueType.Float32 => 4,
        GgufValueType.UInt64 or GgufValueType.Int64 or GgufValueType.Float64 or GgufValueType.String => 8,
        _ => throw Bad($"has a value of unknown type {(uint)type} in {Show(key)}"),
    };

    private void SkipStrings(int count, string key)
    {
        for (int i = 0; i < count; i++)
        {
            long length = ReadCount(key, 1);
            long offset = Take(length, key);
            if (!System.Text.Unicode.Utf8.IsValid(new ReadOnlySpan<byte>(_start + offset, checked((int)Math.Min(length, int.MaxValue)))))
                throw Bad($"has a string that is not UTF-8 in {Show(key)}");
        }
    }

    private readonly void CheckBooleans(GgufValue value, string key)
    {
        if (new ReadOnlySpan<byte>(_start + value.Offset, value.Count).IndexOfAnyExcept((byte)0, (byte)1) >= 0)
            throw Bad($"has a truth value that is neither 0 nor 1 in {Show(key)}");
    }

    private readonly int Alignment(Dictionary<string, GgufValue> metadata)
    {
        if (!metadata.TryGetValue("general.alignment", out var value))
            return DefaultAlignment;
        if (value.Type != GgufValueType.UInt32 || value.IsArray)
            throw Bad("has a general.alignment that is no 32-bit number");
        uint alignment = BinaryPrimitives.ReadUInt32LittleEndian(new ReadOnlySpan<byte>(_start + value.Offset, 4));
        if (alignment < 8 || alignment > 1 << 20 || !uint.IsPow2(alignment))
            throw Bad($"has the impossible alignment {alignment}");
        return (int)alignment;
    }

    private (string, GgufType, long[], long, long) ReadTensor()
    {
        string name = ReadString("tensor name", MaximumNameBytes);
        uint rank = ReadUInt32(name);
        if (rank is < 1 or > 4)
            throw Bad($"gives tensor {Show(name)} {rank} dimensions");
        var shape = new long[rank];
        long elements = 1;
        for (int d = (int)rank - 1; d >= 0; d--) // innermost first in the file
        {
            shape[d] = (long)ReadUInt64(name);
            if (shape[d] <= 0 || elements > long.MaxValue / 8 / shape[d])
                throw Bad($"gives tensor {Show(name)} an impossible shape");
            elements *= shape[d];
        }
        var type = (GgufType)ReadUInt32(name);
        var (blockElements, blockBytes) = GgufTensor.Block(type)
            ?? throw Bad($"gives tensor {Show(name)} the unknown or unsupported type {(int)type}");
        if (shape[^1] % blockElements != 0)
            throw Bad($"gives tensor {Show(name)} rows that are no multiple of the {type} block");
        long blocks = elements / blockElements;
        if (blocks > _length / blockBytes)
            throw Bad($"is too short for tensor {Show(name)}; is it truncated?");
        return (name, type, shape, (long)ReadUInt64(name), blocks * blockBytes);
    }

    /// <summary>Tensors must lie one after the other in the order of their entries: no gaps, no overlaps, all inside the file.</summary>
    private readonly Dictionary<string, GgufTensor> Place(
        List<(string Name, GgufType Type, long[] Shape, long Offset, long Bytes)> entries, int alignment)
    {
        long dataStart = Align(_position, alignment), expected = 0;
        var tensors = new Dictionary<string, GgufTensor>(entries.Count);
        foreach (var (name, type, shape, offset, bytes) in entries)
        {
            if (offset != expected)
                throw Bad($"puts tensor {Show(name)} at {offset}, {expected} was expected");
            if (dataStart > _length || bytes > _length - dataStart - offset)
                throw Bad($"ends before tensor {Show(name)} does; is it truncated?");
            if (!tensors.TryAdd(name, new GgufTensor(name, type, shape, dataStart + offset, bytes)))
                throw Bad($"has tensor {Show(name)} twice");
            expected = Align(offset + bytes, alignment);
        }
        return tensors;
    }

    private static long Align(long position, int alignment) => (position + alignment - 1) / alignment * alignment;

    private string ReadString(string what, int maximumBytes)
    {
        ulong length = ReadUInt64(what);
        if (length == 0 || length > (ulong)maximumBytes)
            throw Bad($"has a {what} of {length} bytes");
        long offset = Take((long)length, what);
        try
        {
            return StrictUtf8.GetString(_start + offset, (int)length);
        }
        catch (DecoderFallbackException)
        {
            throw Bad($"has a {what} that is not UTF-8");
        }
    }

    /// <summary>A count of things that take at least <paramref name="leastBytes"/> each and so must fit into the rest of the file.</summary>
    private long ReadCount(string what, int leastBytes)
    {
        ulong count = ReadUInt64(what);
        if (count > (ulong)((_length - _position) / leastBytes) || count > int.MaxValue)
            throw Bad($"claims {count} elements for {Show(what)}, more than it can hold");
        return (long)count;
    }

    private uint ReadUInt32(string what) => BinaryPrimitives.ReadUInt32LittleEndian(new ReadOnlySpan<byte>(_start + Take(4, what), 4));

    private ulong ReadUInt64(string what) => BinaryPrimitives.ReadUInt64LittleEndian(new ReadOnlySpan<byte>(_start + Take(8, what), 8));

    private long Take(long bytes, string what)
    {
        if (bytes > _length - _position)
            throw Bad($"ends in the middle of {Show(what)}");
        long offset = _position;
        _position += bytes;
        return offset;
    }

    /// <summary>Names come from the file: keep them printable and short in messages.</summary>
    private static string Show(string name)
    {
        string shortened = name.Length > 80 ? name[..80] + "…" : name;
        return new string([.. shortened.Select(c => char.IsControl(c) ? '?' : c)]);
    }

    private readonly InputException Bad(string problem) => new(_path, problem);
}
