using System.Buffers.Binary;
using System.Runtime.InteropServices;

namespace Pcrl.Runtime.Language.Native;

/// <summary><c>llama_model_params</c> of llama.cpp v0.5.0. Always starts as what the library calls its defaults.</summary>
[StructLayout(LayoutKind.Explicit, Size = LlamaLayout.ModelParamsBytes)]
internal unsafe struct LlamaModelParams
{
    [FieldOffset(0)] public nint* Devices;
    [FieldOffset(16)] public int GpuLayers;
    [FieldOffset(74)] public byte ExtraBuffers; // whether the CPU may lay weights out anew, in memory of its own
}

/// <summary><c>llama_context_params</c> of llama.cpp v0.5.0. Always starts as what the library calls its defaults.</summary>
[StructLayout(LayoutKind.Explicit, Size = LlamaLayout.ContextParamsBytes)]
internal struct LlamaContextParams
{
    [FieldOffset(0)] public uint ContextLength;
    [FieldOffset(4)] public uint Batch;
    [FieldOffset(8)] public uint PhysicalBatch;
    [FieldOffset(12)] public uint Sequences;
    [FieldOffset(20)] public uint MaximumOutputs;
    [FieldOffset(24)] public uint MaximumOutputsPerSequence;
    [FieldOffset(28)] public int Threads;
    [FieldOffset(32)] public int BatchThreads;
    [FieldOffset(52)] public int FlashAttention;
    [FieldOffset(104)] public int KeyType;
    [FieldOffset(108)] public int ValueType;
}

/// <summary><c>llama_batch</c>: either tokens or embeddings, never both.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct LlamaBatch
{
    public int Count;
    public int* Tokens;
    public float* Embeddings;
    public int* Positions;
    public int* SequenceCounts;
    public int** Sequences;
    public sbyte* Outputs;
}

/// <summary><c>ggml_type_traits</c>, as far as it is used.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct GgmlTypeTraits
{
    public byte* Name;
    public long BlockElements;
    public long BlockInterleave;
    public nuint BlockBytes;
    public byte IsQuantised;
    public delegate* unmanaged[Cdecl]<void*, float*, long, void> ToFloat;
}

/// <summary><c>ggml_tensor</c>, as far as it is used: a result, its operation and what it is computed from.</summary>
[StructLayout(LayoutKind.Explicit)]
internal unsafe struct GgmlTensor
{
    public const int F32 = 0, F16 = 1, Q4K = 12, Q6K = 14; // ggml_type
    public const int None = 0, MatrixProduct = 29; // ggml_op

    [FieldOffset(0)] public int Type;
    [FieldOffset(8)] public GgmlBuffer* Buffer;
    [FieldOffset(16)] public fixed long Count[4];
    [FieldOffset(48)] public fixed long Stride[4];
    [FieldOffset(80)] public int Operation;
    [FieldOffset(152)] public GgmlTensor* First;
    [FieldOffset(160)] public GgmlTensor* Second;
    [FieldOffset(248)] public byte* Data;
    [FieldOffset(320)] public nint* Extra;
}

/// <summary><c>ggml_backend_buffer</c>, as far as it is used.</summary>
[StructLayout(LayoutKind.Explicit)]
internal struct GgmlBuffer
{
    [FieldOffset(88)] public nint Type;
}

/// <summary><c>ggml_compute_params</c>: a thread's share of an operation.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct GgmlWork
{
    public int Thread;
    public int Threads;
    public nuint Bytes;
    public byte* Memory;
    public nint Pool;
}

/// <summary>
/// The two parameter structures pass by value and change between releases of llama.cpp. A library whose defaults do not look
/// exactly as those of the pinned release is refused: writing a field to the wrong place would end in a crash far from its cause.
/// </summary>
internal static class LlamaLayout
{
    public const string Version = "0.5.0";
    public const string GgmlCommit = "0ad4a86";
    public const int ModelParamsBytes = 80;
    public const int ContextParamsBytes = 160;

    /// <summary>Room for whatever a newer library writes: the defaults are fetched into it before anything is trusted.</summary>
    public const int ProbeBytes = 1024;

    /// <summary>What the probe is filled with; bytes that still hold it behind the structure were not written.</summary>
    public const byte Untouched = 0xAA;

    private const uint MinusOne = 0xBF800000; // -1.0f

    /// <summary>The default model parameters in 32-bit words, and which bits of them the library sets (padding stays as it was).</summary>
    private static readonly (uint Value, uint Mask)[] ModelDefaults = Words(
        [(16, ~0u), (20, 1), (24, ~0u), (28, 1), (72, 0x10000)], masks: [(36, 0), (76, 0xFFFF)], ModelParamsBytes);

    private static readonly (uint Value, uint Mask)[] ContextDefaults = Words(
        [
            (0, 512), (4, 2048), (8, 512), (12, 1), (24, 1), (28, 4), (32, 4), (40, ~0u), (44, ~0u), (48, ~0u), (52, ~0u),
            (64, MinusOne), (68, MinusOne), (72, MinusOne), (76, MinusOne), (84, MinusOne), (104, 1), (108, 1), (128, 0x01010100), (132, 1),
        ],
        masks: [(132, 0xFFFF)], ContextParamsBytes);

    /// <summary>What is wrong with the bytes that <c>llama_model_default_params</c> wrote, or null.</summary>
    public static string? ModelProblem(ReadOnlySpan<byte> probe) => Problem("llama_model_params", probe, ModelDefaults);

    /// <summary>What is wrong with the bytes that <c>llama_context_default_params</c> wrote, or null.</summary>
    public static string? ContextProblem(ReadOnlySpan<byte> probe) => Problem("llama_context_params", probe, ContextDefaults);

    /// <summary>What is wrong with the commit that ggml says it was built from, or null. Where llama.cpp's inside is looked at, no other will do.</summary>
    public static string? CommitProblem(string? commit) => commit == GgmlCommit ? null : $"ggml is of commit {commit ?? "unknown"}, not {GgmlCommit}";

    private static string? Problem(string name, ReadOnlySpan<byte> probe, (uint Value, uint Mask)[] expected)
    {
        for (int word = 0; word < expected.Length; word++)
        {
            uint got = BinaryPrimitives.ReadUInt32LittleEndian(probe[(4 * word)..]) & expected[word].Mask;
            if (got != expected[word].Value)
                return $"{name} has 0x{got:X} at offset {4 * word} where version {Version} has 0x{expected[word].Value:X}";
        }
        return probe[(4 * expected.Length)..].ContainsAnyExcept(Untouched)
            ? $"{name} is longer than the {4 * expected.Length} bytes of version {Version}"
            : null;
    }

    private static (uint Value, uint Mask)[] Words((int Offset, uint Value)[] nonZero, (int Offset, uint Mask)[] masks, int bytes)
    {
        var words = new (uint Value, uint Mask)[bytes / 4];
        Array.Fill(words, (0u, ~0u));
        foreach (var (offset, value) in nonZero)
            words[offset / 4].Value = value;
        foreach (var (offset, mask) in masks)
            words[offset / 4].Mask = mask;
        return words;
    }
}
