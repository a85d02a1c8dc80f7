using System.Runtime.Intrinsics.X86;
using System.Text.Json.Serialization;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Quantisation;

/// <summary>How the weights of the frozen LLM lie in memory.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<BaseWeights>))]
public enum BaseWeights
{
    /// <summary>4 bytes a weight, computed in float32; the only form in which the LLM itself can be trained, as the small one is.</summary>
    [JsonStringEnumMemberName("float32")]
    Float32,

    /// <summary>2 bytes a weight.</summary>
    [JsonStringEnumMemberName("bfloat16")]
    Bfloat16,

    /// <summary>0.516 bytes a weight of a projection (<see cref="Nf4Weight"/>); embeddings and output layer in bfloat16.</summary>
    [JsonStringEnumMemberName("nf4")]
    Nf4,
}

/// <summary>What follows from the form of the frozen weights.</summary>
public static class BaseWeightsPrecision
{
    /// <summary>
    /// What the LLM computes in: float32 over float32 weights; over smaller ones bfloat16 on a GPU and where the processor multiplies it (AVX512_BF16), else float32.
    /// </summary>
    public static ScalarType ComputeType(this BaseWeights weights) =>
        weights != BaseWeights.Float32 && (MultipliesBfloat16 || TorchDevice.Current.type == DeviceType.CUDA) ? ScalarType.BFloat16 : ScalarType.Float32;

    /// <summary>Whether the processor multiplies bfloat16 (AVX512_BF16); without that it is far slower than float32.</summary>
    internal static bool MultipliesBfloat16 { get; } =
        X86Base.IsSupported && X86Base.CpuId(0, 0).Eax >= 7 && X86Base.CpuId(7, 0).Eax >= 1 && (X86Base.CpuId(7, 1).Eax >> 5 & 1) == 1;
}
