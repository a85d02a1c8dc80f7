using ILGPU;

namespace Pcrl.Kernels.TensorCores;

/// <summary>bfloat16 is the upper half of a float. ILGPU does not know it: kernels carry it as <see cref="ushort"/>.</summary>
internal static class Bfloat16
{
    public static float ToFloat(ushort value) => Interop.IntAsFloat((uint)value << 16);

    /// <summary>To the nearest, ties to even; a NaN stays one.</summary>
    public static ushort Round(float value)
    {
        uint bits = Interop.FloatAsInt(value);
        uint rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
        bool isNaN = (bits & 0x7FFFFFFF) > 0x7F800000;
        return (ushort)(isNaN ? (bits >> 16) | 0x40 : rounded); // a NaN whose bits all lie in the lower half would become infinity
    }
}
