using Pcrl.Kernels.TensorCores;

namespace Pcrl.Kernels.Gpu;

/// <summary>How a kernel that is the same for both precisions reads and writes a value.</summary>
internal interface IElement<T>
    where T : unmanaged
{
    float ToFloat(T value);

    T FromFloat(float value);
}

/// <summary>A float.</summary>
internal readonly struct Fp32Element : IElement<float>
{
    public float ToFloat(float value) => value;

    public float FromFloat(float value) => value;
}

/// <summary>A <see cref="Bfloat16"/>.</summary>
internal readonly struct Bf16Element : IElement<ushort>
{
    public float ToFloat(ushort value) => Bfloat16.ToFloat(value);

    public ushort FromFloat(float value) => Bfloat16.Round(value);
}
