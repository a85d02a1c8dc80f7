namespace Pcrl.Kernels;

/// <summary>In what numbers activations and weights are kept. Sums are fp32 in both.</summary>
public enum Precision
{
    /// <summary>32-bit floats everywhere: every device gives the same result but for rounding.</summary>
    Fp32,

    /// <summary>bfloat16, for the tensor cores of CUDA cards of compute capability 8.0 and later: as far as a float reaches, with 8 significant bits.</summary>
    Bf16,
}
