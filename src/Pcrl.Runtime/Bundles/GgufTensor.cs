namespace Pcrl.Runtime.Bundles;

/// <summary>Element types of GGUF tensors that a bundle may hold; the numbers are the format's.</summary>
public enum GgufType
{
#pragma warning disable CS1591 // the names are the format's own
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q2_K = 10,
    Q3_K = 11,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    IQ4_NL = 20,
    IQ4_XS = 23,
    BF16 = 30,
#pragma warning restore CS1591
}

/// <summary>One tensor of a GGUF file.</summary>
/// <param name="Name">At most 63 bytes of UTF-8.</param>
/// <param name="Type">Element type.</param>
/// <param name="Shape">Dimensions, outermost first as in PyTorch (the file stores them innermost first); 1 to 4 of them.</param>
/// <param name="Offset">First byte, from the start of the file.</param>
/// <param name="ByteCount">Bytes of data, without padding.</param>
public sealed record GgufTensor(string Name, GgufType Type, IReadOnlyList<long> Shape, long Offset, long ByteCount)
{
    /// <summary>Product of <see cref="Shape"/>.</summary>
    public long ElementCount => Shape.Aggregate(1L, (a, b) => a * b);

    /// <summary>Whether the shape is exactly this, outermost dimension first.</summary>
    public bool HasShape(params ReadOnlySpan<long> shape) => shape.SequenceEqual(Shape.ToArray());

    /// <summary>Elements per quantisation block and bytes per block; null for a number that is no <see cref="GgufType"/>.</summary>
    public static (int Elements, int Bytes)? Block(GgufType type) => type switch
    {
        GgufType.F32 => (1, 4),
        GgufType.F16 or GgufType.BF16 => (1, 2),
        GgufType.Q4_0 or GgufType.IQ4_NL => (32, 18),
        GgufType.Q4_1 => (32, 20),
        GgufType.Q5_0 => (32, 22),
        GgufType.Q5_1 => (32, 24),
        GgufType.Q8_0 => (32, 34),
        GgufType.Q2_K => (256, 84),
        GgufType.Q3_K => (256, 110),
        GgufType.Q4_K => (256, 144),
        GgufType.Q5_K => (256, 176),
        GgufType.Q6_K => (256, 210),
        GgufType.IQ4_XS => (256, 136),
        _ => null,
    };

    /// <summary>Bytes of a number of elements, whole blocks.</summary>
    public static long Bytes(GgufType type, long elements)
    {
        var (blockElements, blockBytes) = Block(type) ?? throw new ArgumentException($"unknown type {type}", nameof(type));
        return elements % blockElements == 0
            ? elements / blockElements * blockBytes
            : throw new ArgumentException($"{elements} elements are no whole {type} blocks", nameof(elements));
    }
}

/// <summary>Types of GGUF metadata values; the numbers are the format's.</summary>
internal enum GgufValueType : uint
{
    UInt8 = 0,
    Int8 = 1,
    UInt16 = 2,
    Int16 = 3,
    UInt32 = 4,
    Int32 = 5,
    Float32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    UInt64 = 10,
    Int64 = 11,
    Float64 = 12,
}
