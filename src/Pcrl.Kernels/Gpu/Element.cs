using Pcrl.Kernels.TensorCores;

namespace Pcrl.Kernels.Gpu;

/// <summary>How a kernel that is the same for all precisions reads and writes what a thread takes at once: one channel, or two.</summary>
internal interface IElement<T>
    where T : unmanaged
{
    (float First, float Second) ToFloats(T value);

    T FromFloats(float first, float second);
}

/// <summary>A float; the second channel is not there.</summary>
internal readonly struct Fp32Element : IElement<float>
{
    public (float First, float Second) ToFloats(float value) => (value, 0);

    public float FromFloats(float first, float second) => first;
}

/// <summary>A <see cref="Bfloat16"/>; the second channel is not there.</summary>
internal readonly struct Bf16Element : IElement<ushort>
{
    public (float First, float Second) ToFloats(ushort value) => (Bfloat16.ToFloat(value), 0);

    public ushort FromFloats(float first, float second) => Bfloat16.Round(first);
}

/// <summary>Two <see cref="Bfloat16"/>, the first in the lower half.</summary>
internal readonly struct Bf16PairElement : IElement<uint>
{
    public (float First, float Second) ToFloats(uint value) => (Bfloat16.ToFloat((ushort)value), Bfloat16.ToFloat((ushort)(value >> 16)));

    public uint FromFloats(float first, float second) => Bfloat16.Round(first) | (uint)Bfloat16.Round(second) << 16;
}
