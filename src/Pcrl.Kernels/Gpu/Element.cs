using Pcrl.Kernels.TensorCores;

namespace Pcrl.Kernels.Gpu;

/// <summary>What a thread takes at once: four neighbouring channels, or one, and three that are not there.</summary>
internal struct Channels
{
    public float A, B, C, D;
}

/// <summary>How a kernel that is the same for all precisions reads and writes a value.</summary>
internal interface IElement<T>
    where T : unmanaged
{
    Channels ToFloats(T value);

    T FromFloats(Channels channels);
}

/// <summary>A float.</summary>
internal readonly struct Fp32Element : IElement<float>
{
    public Channels ToFloats(float value) => new() { A = value };

    public float FromFloats(Channels channels) => channels.A;
}

/// <summary>A <see cref="Bfloat16"/>.</summary>
internal readonly struct Bf16Element : IElement<ushort>
{
    public Channels ToFloats(ushort value) => new() { A = Bfloat16.ToFloat(value) };

    public ushort FromFloats(Channels channels) => Bfloat16.Round(channels.A);
}

/// <summary>Four <see cref="Bfloat16"/>, the first in the lowest bits.</summary>
internal readonly struct Bf16QuadElement : IElement<ulong>
{
    public Channels ToFloats(ulong value) => new()
    {
        A = Bfloat16.ToFloat((ushort)value), B = Bfloat16.ToFloat((ushort)(value >> 16)), C = Bfloat16.ToFloat((ushort)(value >> 32)), D = Bfloat16.ToFloat((ushort)(value >> 48)),
    };

    public ulong FromFloats(Channels channels) =>
        Bfloat16.Round(channels.A) | (ulong)Bfloat16.Round(channels.B) << 16 | (ulong)Bfloat16.Round(channels.C) << 32 | (ulong)Bfloat16.Round(channels.D) << 48;
}
