using System.Buffers.Binary;
using System.IO.MemoryMappedFiles;
using System.Runtime.InteropServices;
using System.Text;

namespace Pcrl.Runtime.Bundles;

/// <summary>
/// A GGUF file (version 3, little-endian), memory-mapped. The whole header is checked against the file's length on opening, so
/// that a hostile file is refused before it costs memory or reaches native code. Not to be used after <see cref="Dispose"/>.
/// </summary>
public sealed unsafe class GgufFile : IDisposable
{
    private readonly MemoryMappedFile _mapping;
    private readonly MemoryMappedViewAccessor _view;
    private readonly byte* _start;
    private readonly GgufHeader _header;
    private bool _disposed;

    private GgufFile(string path, MemoryMappedFile mapping, MemoryMappedViewAccessor view, byte* start, GgufHeader header)
    {
        Path = path;
        _mapping = mapping;
        _view = view;
        _start = start;
        _header = header;
    }

    /// <summary>The file as it was named on opening.</summary>
    public string Path { get; }

    /// <summary>All tensors by name.</summary>
    public IReadOnlyDictionary<string, GgufTensor> Tensors => _header.Tensors;

    /// <summary>All metadata keys.</summary>
    public IReadOnlyCollection<string> Keys => _header.Metadata.Keys;

    /// <summary>Opens and checks a file.</summary>
    /// <exception cref="InputException">Missing, unreadable, truncated, or not a sound GGUF file.</exception>
    public static GgufFile Open(string path)
    {
        MemoryMappedFile? mapping = null;
        MemoryMappedViewAccessor? view = null;
        byte* start = null;
        try
        {
            long length = RegularFile.Find(path)?.Length ?? 0;
            if (length < 24)
                throw new InputException(path, "is too short to be a GGUF file");
            mapping = MemoryMappedFile.CreateFromFile(path, FileMode.Open, null, 0, MemoryMappedFileAccess.Read);
            view = mapping.CreateViewAccessor(0, length, MemoryMappedFileAccess.Read);
            view.SafeMemoryMappedViewHandle.AcquirePointer(ref start);
            return new GgufFile(path, mapping, view, start, GgufParser.Parse(path, start, length));
        }
        catch (Exception e)
        {
            if (start != null)
                view!.SafeMemoryMappedViewHandle.ReleasePointer();
            view?.Dispose();
            mapping?.Dispose();
            if (e is IOException or UnauthorizedAccessException or ArgumentException)
                throw InputException.Unreadable(path, e);
            throw;
        }
    }

    /// <summary>Whether there is metadata under the key.</summary>
    public bool Has(string key) => _header.Metadata.ContainsKey(key);

    /// <summary>A string.</summary>
    /// <exception cref="InputException">Missing or of another type.</exception>
    public string GetString(string key)
    {
        var value = Value(key, isArray: false, "a string");
        return value.Type == GgufValueType.String ? Encoding.UTF8.GetString(StringAt(value.Offset, out _)) : throw Wrong(key, "a string");
    }

    /// <summary>An integer of any width.</summary>
    /// <exception cref="InputException">Missing, of another type, or beyond 63 bits.</exception>
    public long GetInteger(string key) => IntegerAt(Value(key, isArray: false, "an integer"), 0) ?? throw Wrong(key, "an integer");

    /// <summary>A floating-point number.</summary>
    /// <exception cref="InputException">Missing or of another type.</exception>
    public double GetFloat(string key)
    {
        var value = Value(key, isArray: false, "a number");
        return value.Type switch
        {
            GgufValueType.Float32 => BinaryPrimitives.ReadSingleLittleEndian(BytesAt(value.Offset, 4)),
            GgufValueType.Float64 => BinaryPrimitives.ReadDoubleLittleEndian(BytesAt(value.Offset, 8)),
            _ => throw Wrong(key, "a number"),
        };
    }

    /// <summary>A truth value.</summary>
    /// <exception cref="InputException">Missing or of another type.</exception>
    public bool GetBoolean(string key)
    {
        var value = Value(key, isArray: false, "a truth value");
        return value.Type == GgufValueType.Bool ? _start[value.Offset] != 0 : throw Wrong(key, "a truth value");
    }

    /// <summary>An array of integers of any width.</summary>
    /// <exception cref="InputException">Missing or of another type.</exception>
    public long[] GetIntegers(string key)
    {
        var value = Value(key, isArray: true, "an array of integers");
        var integers = new long[value.Count];
        for (int i = 0; i < integers.Length; i++)
            integers[i] = IntegerAt(value, i) ?? throw Wrong(key, "an array of integers");
        return integers;
    }

    /// <summary>An array of 32-bit floating-point numbers.</summary>
    /// <exception cref="InputException">Missing or of another type.</exception>
    public float[] GetFloats(string key)
    {
        var value = Value(key, isArray: true, "an array of numbers");
        return value.Type == GgufValueType.Float32
            ? MemoryMarshal.Cast<byte, float>(BytesAt(value.Offset, 4L * value.Count)).ToArray()
            : throw Wrong(key, "an array of numbers");
    }

    /// <summary>An array of strings.</summary>
    /// <exception cref="InputException">Missing or of another type.</exception>
    public string[] GetStrings(string key)
    {
        var value = Value(key, isArray: true, "an array of strings");
        if (value.Type != GgufValueType.String)
            throw Wrong(key, "an array of strings");
        var strings = new string[value.Count];
        long offset = value.Offset;
        for (int i = 0; i < strings.Length; i++)
            strings[i] = Encoding.UTF8.GetString(StringAt(offset, out offset));
        return strings;
    }

    /// <summary>The entry of a tensor that must be there.</summary>
    /// <exception cref="InputException">No such tensor.</exception>
    public GgufTensor Tensor(string name) =>
        _header.Tensors.TryGetValue(name, out var tensor) ? tensor : throw new InputException(Path, $"has no tensor {name}");

    /// <summary>An F32, F16 or BF16 tensor as float32, row-major, at most 2 GiB; F32 in place and valid until <see cref="Dispose"/>.</summary>
    /// <exception cref="InputException">Missing or of another type.</exception>
    public ReadOnlySpan<float> Floats(string name)
    {
        var tensor = Tensor(name);
        var bytes = BytesAt(tensor.Offset, tensor.ByteCount);
        if (tensor.Type == GgufType.F32)
            return MemoryMarshal.Cast<byte, float>(bytes);
        var values = new float[tensor.ElementCount];
        return FloatFormats.TryWiden(tensor.Type, bytes, values)
            ? values
            : throw new InputException(Path, $"tensor {name} is {tensor.Type}, F32, F16 or BF16 was expected");
    }

    /// <summary>
    /// Says that a tensor has been read for now: its pages need not stay in this process's memory. They come back from the file when it is read again.
    /// </summary>
    public void Release(string name)
    {
        var tensor = Tensor(name);
        MappedMemory.Release(_start + tensor.Offset, tensor.ByteCount);
    }

    /// <summary>The raw bytes of one row (innermost dimension) of a tensor, in place; rows are counted over all outer dimensions.</summary>
    public ReadOnlySpan<byte> RowBytes(GgufTensor tensor, long row)
    {
        long rows = tensor.ElementCount / tensor.Shape[^1], bytes = tensor.ByteCount / rows;
        ArgumentOutOfRangeException.ThrowIfNegative(row);
        ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual(row, rows);
        return BytesAt(tensor.Offset + row * bytes, bytes);
    }

    /// <summary>One row of an F32, F16 or BF16 tensor as float32. False for quantised types, which only ggml can read.</summary>
    /// <param name="tensor">A tensor of this file.</param>
    /// <param name="row">Counted over all outer dimensions.</param>
    /// <param name="values">As long as the innermost dimension.</param>
    public bool TryReadRow(GgufTensor tensor, long row, Span<float> values)
    {
        var bytes = RowBytes(tensor, row);
        if (tensor.Type != GgufType.F32)
            return FloatFormats.TryWiden(tensor.Type, bytes, values);
        MemoryMarshal.Cast<byte, float>(bytes).CopyTo(values);
        return true;
    }

    private GgufValue Value(string key, bool isArray, string expected)
    {
        if (!_header.Metadata.TryGetValue(key, out var value))
            throw new InputException(Path, $"lacks the metadata {key}");
        return value.IsArray == isArray ? value : throw Wrong(key, expected);
    }

    private InputException Wrong(string key, string expected) => new(Path, $"metadata {key} is not {expected}");

    private long? IntegerAt(GgufValue value, int index) => value.Type switch
    {
        GgufValueType.UInt8 => _start[value.Offset + index],
        GgufValueType.Int8 => (sbyte)_start[value.Offset + index],
        GgufValueType.UInt16 => BinaryPrimitives.ReadUInt16LittleEndian(BytesAt(value.Offset + 2L * index, 2)),
        GgufValueType.Int16 => BinaryPrimitives.ReadInt16LittleEndian(BytesAt(value.Offset + 2L * index, 2)),
        GgufValueType.UInt32 => BinaryPrimitives.ReadUInt32LittleEndian(BytesAt(value.Offset + 4L * index, 4)),
        GgufValueType.Int32 => BinaryPrimitives.ReadInt32LittleEndian(BytesAt(value.Offset + 4L * index, 4)),
        GgufValueType.Int64 => BinaryPrimitives.ReadInt64LittleEndian(BytesAt(value.Offset + 8L * index, 8)),
        GgufValueType.UInt64 => BinaryPrimitives.ReadUInt64LittleEndian(BytesAt(value.Offset + 8L * index, 8)) is <= long.MaxValue and var wide
            ? (long)wide : null,
        _ => null,
    };

    private ReadOnlySpan<byte> StringAt(long offset, out long end)
    {
        int length = (int)BinaryPrimitives.ReadInt64LittleEndian(BytesAt(offset, 8));
        end = offset + 8 + length;
        return BytesAt(offset + 8, length);
    }

    private ReadOnlySpan<byte> BytesAt(long offset, long count)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        return count <= int.MaxValue
            ? new ReadOnlySpan<byte>(_start + offset, (int)count)
            : throw new InputException(Path, "has a tensor of more than 2 GiB where only smaller ones can be read");
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_disposed)
            return;
        _disposed = true;
        _view.SafeMemoryMappedViewHandle.ReleasePointer();
        _view.Dispose();
        _mapping.Dispose();
    }
}
