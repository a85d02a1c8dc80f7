using System.Numerics.Tensors;
using System.Runtime.InteropServices;
using Pcrl.Runtime.Bundles;

namespace Pcrl.Train.Checkpoints;

/// <summary>Element types of stored tensors, by the names that safetensors gives them.</summary>
internal static class ElementTypes
{
    /// <summary>Bytes of one element; null for an unknown type.</summary>
    public static int? Size(string type) => type switch
    {
        "F64" or "I64" => 8,
        "F32" or "I32" => 4,
        "F16" or "BF16" or "I16" => 2,
        "I8" or "U8" or "BOOL" => 1,
        _ => null,
    };

    /// <summary>Little-endian floating-point elements as float32; false if the type is not floating-point.</summary>
    public static bool TryToFloats(string type, ReadOnlySpan<byte> bytes, Span<float> values)
    {
        switch (type)
        {
            case "F32":
                MemoryMarshal.Cast<byte, float>(bytes).CopyTo(values);
                return true;
            case "F16":
                return FloatFormats.TryWiden(GgufType.F16, bytes, values);
            case "BF16":
                return FloatFormats.TryWiden(GgufType.BF16, bytes, values);
            case "F64":
                TensorPrimitives.ConvertTruncating<double, float>(MemoryMarshal.Cast<byte, double>(bytes), values);
                return true;
            default:
                return false;
        }
    }

    /// <summary>The same in an array; null if the type is not floating-point.</summary>
    public static float[]? ToFloats(string type, ReadOnlySpan<byte> bytes)
    {
        var values = new float[bytes.Length / Size(type)!.Value];
        return TryToFloats(type, bytes, values) ? values : null;
    }

    /// <summary>Little-endian integer or boolean elements as 64-bit integers; null if the type is floating-point.</summary>
    public static long[]? ToIntegers(string type, ReadOnlySpan<byte> bytes) => type switch
    {
        "I64" => MemoryMarshal.Cast<byte, long>(bytes).ToArray(),
        "I32" => Array.ConvertAll(MemoryMarshal.Cast<byte, int>(bytes).ToArray(), v => (long)v),
        "I16" => Array.ConvertAll(MemoryMarshal.Cast<byte, short>(bytes).ToArray(), v => (long)v),
        "I8" => Array.ConvertAll(MemoryMarshal.Cast<byte, sbyte>(bytes).ToArray(), v => (long)v),
        "U8" or "BOOL" => Array.ConvertAll(bytes.ToArray(), v => (long)v),
        _ => null,
    };
}
