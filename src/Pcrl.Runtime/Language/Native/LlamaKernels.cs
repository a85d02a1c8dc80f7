using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Pcrl.Kernels.Llm;
using Pcrl.Runtime.Bundles;

namespace Pcrl.Runtime.Language.Native;

/// <summary>
/// Own kernels inside llama.cpp: products of quantised weights, which are what checking a draft costs. llama.cpp's CPU backend keeps a list
/// of "extra buffer types", for processors' own weight layouts, and asks each entry about every operation before it computes it itself. One more entry answers
/// for Q4_K weights that llama.cpp has laid out anew, for Q6_K weights, and for float32 weights and attention (<see cref="LlamaFloatProduct"/>); llama.cpp's threads call it where they
/// would call their own kernel, so nothing is scheduled, copied or waited for. What a row gives does not depend on the rows beside it, so drafts change no text.
/// <para>
/// The list is no public interface: the entry is made only for the pinned commit and where all is found as expected (<see cref="LlamaInternals"/>), and each weight's layout is known by the type of
/// the C++ object that llama.cpp has attached to it.
/// </para>
/// </summary>
internal static unsafe class LlamaKernels
{
    /// <summary>Set to "off", it leaves all to llama.cpp.</summary>
    private const string Switch = "PCRL_OWN_KERNELS";

    private static LlamaInternals _llama;
    private static nint* _quantisedProduct, _floatProduct;
    private static volatile bool _enabled;

    /// <summary>Whether the kernels multiply by these weights, [outputs, inputs].</summary>
    public static bool Fit(GgufTensor weights) => weights.Shape is [var outputs, var inputs] && weights.Type switch
    {
        GgufType.Q4_K or GgufType.Q6_K => outputs % Q4KProduct.Group == 0,
        GgufType.F32 => FloatProduct.Fits(outputs, inputs),
        _ => false,
    };

    /// <summary>Why the kernels are not in use in this process, or null.</summary>
    public static string? Problem { get; private set; } = "not loaded";

    /// <summary>For comparisons: whether the kernels are used, where they can be. To be changed only while nothing is computed.</summary>
    public static bool Enabled
    {
        get => _enabled;
        set => _enabled = value && Problem is null;
    }

    /// <summary>Puts the entry into the list. To be called once, before any model is loaded.</summary>
    public static void Install()
    {
        Problem = Refusal(Environment.GetEnvironmentVariable(Switch), OperatingSystem.IsLinux(), QuantisedRows.IsSupported, Marshal.PtrToStringUTF8((nint)LlamaNative.GgmlCommit()))
            ?? LlamaInternals.Find(out _llama);
        if (Problem is null)
            Register();
        Enabled = true;
    }

    /// <summary>Why a process is not to use the kernels, whatever llama.cpp looks like inside, or null.</summary>
    /// <param name="wish">What <see cref="Switch"/> is set to.</param>
    /// <param name="isLinux">The system is Linux.</param>
    /// <param name="hasInstructions">The processor has what <see cref="QuantisedRows"/> needs.</param>
    /// <param name="commit">What ggml says it was built from.</param>
    internal static string? Refusal(string? wish, bool isLinux, bool hasInstructions, string? commit) =>
        wish == "off" ? $"{Switch} is off"
        : !isLinux ? "they know llama.cpp's library for Linux only"
        : !hasInstructions ? "this processor has no AVX2"
        : LlamaLayout.CommitProblem(commit);

    private static void Register()
    {
        nint nothing = (nint)(delegate* unmanaged[Cdecl]<nint, void>)&Nothing;
        _quantisedProduct = Object(nothing, nothing, (nint)(delegate* unmanaged[Cdecl]<nint, int, GgmlTensor*, nuint*, byte>)&WorkBytes,
            (nint)(delegate* unmanaged[Cdecl]<nint, GgmlWork*, GgmlTensor*, byte>)&Compute);
        _floatProduct = Object(nothing, nothing, (nint)(delegate* unmanaged[Cdecl]<nint, int, GgmlTensor*, nuint*, byte>)&FloatWorkBytes,
            (nint)(delegate* unmanaged[Cdecl]<nint, GgmlWork*, GgmlTensor*, byte>)&ComputeFloats);
        nint* entry = Copy(new ReadOnlySpan<nint>((void*)_llama.Repacked, LlamaInternals.EntryWords));
        entry[LlamaInternals.EntryContext] = (nint)Object(nothing, nothing, (nint)(delegate* unmanaged[Cdecl]<nint, nint, GgmlTensor*, byte>)&CanHold,
            (nint)(delegate* unmanaged[Cdecl]<nint, GgmlTensor*, nint*>)&KernelOf);
        nint* list = _llama.Entries;
        var entries = LlamaInternals.Items(list);
        nint* longer = Copy([(nint)entry, .. entries]); // from malloc, as the vector's own memory is, for the vector may free it
        (list[0], list[1], list[2]) = ((nint)longer, (nint)(longer + entries.Length + 1), (nint)(longer + entries.Length + 1));
    }

    /// <summary>A C++ object of a class without fields: two destructors, then its functions.</summary>
    private static nint* Object(params ReadOnlySpan<nint> functions) => Copy([(nint)Copy(functions)]);

    private static nint* Copy(ReadOnlySpan<nint> words)
    {
        nint* memory = (nint*)NativeMemory.Alloc((nuint)words.Length, (nuint)sizeof(nint));
        words.CopyTo(new Span<nint>(memory, words.Length));
        return memory;
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void Nothing(nint self)
    {
    }

    /// <summary><c>extra_buffer_type::supports_op</c>: nothing is to be laid out for this entry.</summary>
    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static byte CanHold(nint self, nint device, GgmlTensor* operation) => 0;

    /// <summary><c>extra_buffer_type::get_tensor_traits</c>: the kernel that computes an operation, or null to leave it to llama.cpp.</summary>
    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static nint* KernelOf(nint self, GgmlTensor* operation) =>
        operation->Operation != GgmlTensor.MatrixProduct || !_enabled || !HasFloatRows(operation, operation->Second) ? null
        : LlamaFloatProduct.IsOfWeights(operation->First, operation->Second) || LlamaFloatProduct.IsOfCache(operation->First, operation->Second) ? _floatProduct
        : IsOfQuantisedWeights(_llama, operation->First, operation->Second) ? _quantisedProduct
        : null;

    /// <summary>Whether input and result of a product are float32, row by row.</summary>
    internal static bool HasFloatRows(GgmlTensor* result, GgmlTensor* input) =>
        input->Type == GgmlTensor.F32 && input->Stride[0] == sizeof(float) && result->Stride[0] == sizeof(float);

    /// <summary>Whether a product is of one matrix with the rows of another.</summary>
    internal static bool AreMatrices(GgmlTensor* weights, GgmlTensor* input) =>
        input->Count[2] == 1 && input->Count[3] == 1 && weights->Count[2] == 1 && weights->Count[3] == 1;

    /// <summary>Whether a product is of Q4_K or Q6_K weights, laid out as the kernels know them, with rows.</summary>
    internal static bool IsOfQuantisedWeights(in LlamaInternals llama, GgmlTensor* weights, GgmlTensor* input)
    {
        if (weights->Type is not (GgmlTensor.Q4K or GgmlTensor.Q6K) || weights->Buffer == null || weights->Count[1] % Q4KProduct.Group != 0 || !AreMatrices(weights, input))
            return false;
        bool isLaidOutAnew = weights->Buffer->Type == llama.Repacked;
        return weights->Type == GgmlTensor.Q4K
            ? isLaidOutAnew && weights->Extra != null && *weights->Extra == llama.InterleavedQ4K
            : !isLaidOutAnew && LlamaNative.IsHost(weights->Buffer->Type);
    }

    /// <summary><c>tensor_traits::work_size</c>: room for the quantised rows.</summary>
    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static byte WorkBytes(nint self, int threads, GgmlTensor* operation, nuint* bytes)
    {
        *bytes = (nuint)QuantisedRows.Bytes(operation->Second->Count[1], operation->Second->Count[0]) + QuantisedRows.Alignment;
        return 1;
    }

    /// <summary><c>tensor_traits::compute_forward</c>, called by each of llama.cpp's threads.</summary>
    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static byte Compute(nint self, GgmlWork* work, GgmlTensor* operation)
    {
        GgmlTensor* weights = operation->First, input = operation->Second;
        int blocks = (int)(weights->Count[0] / QuantisedRows.Block), rows = (int)input->Count[1], groups = (int)(weights->Count[1] / Q4KProduct.Group);
        byte* tiles = (byte*)(((nuint)work->Memory + QuantisedRows.Alignment - 1) / QuantisedRows.Alignment * QuantisedRows.Alignment);
        for (int row = work->Thread; row < rows; row += work->Threads)
        {
            var (offset, stride) = QuantisedRows.Place(row, rows, blocks);
            QuantisedRows.Quantise((float*)(input->Data + row * input->Stride[1]), blocks, tiles + offset, stride);
        }
        if (work->Thread == 0)
            _llama.SetChunk(work->Pool, work->Threads);
        _llama.WaitForAll(work->Pool);
        // Weights of a chunk stay in the second-level cache while the tiles pass.
        const int chunksPerThread = 16, mostGroups = 32;
        int chunk = Math.Clamp(groups / (chunksPerThread * work->Threads), 1, mostGroups);
        for (int part = work->Thread; part * chunk < groups; part = _llama.NextChunk(work->Pool, 1))
        {
            for (int first = 0; first < rows; first += QuantisedRows.TileRows)
            {
                byte* tile = tiles + QuantisedRows.Place(first, rows, blocks).Offset;
                float* result = (float*)(operation->Data + first * operation->Stride[1]);
                for (int group = part * chunk; group < Math.Min(groups, (part + 1) * chunk); group++)
                    Multiply(weights, group, blocks, tile, Math.Min(QuantisedRows.TileRows, rows - first), result + group * Q4KProduct.Group, (nint)(operation->Stride[1] / sizeof(float)));
            }
        }
        return 1;
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static byte FloatWorkBytes(nint self, int threads, GgmlTensor* operation, nuint* bytes)
    {
        *bytes = LlamaFloatProduct.WorkBytes(operation, threads);
        return 1;
    }

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static byte ComputeFloats(nint self, GgmlWork* work, GgmlTensor* operation)
    {
        LlamaFloatProduct.Compute(work, operation);
        return 1;
    }

    private static void Multiply(GgmlTensor* weights, int group, int blocks, byte* tile, int rows, float* result, nint stride)
    {
        if (weights->Type == GgmlTensor.Q4K)
        {
            Q4KProduct.Multiply(weights->Data + (long)group * blocks * Q4KProduct.BlockBytes, blocks, tile, rows, result, stride);
            return;
        }
        for (int i = 0; i < Q4KProduct.Group; i++)
            Q6KProduct.Multiply(weights->Data + (group * Q4KProduct.Group + i) * weights->Stride[1], blocks, tile, rows, result + i, stride);
    }
}
