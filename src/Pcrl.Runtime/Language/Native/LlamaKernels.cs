using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Pcrl.Kernels.Quantised;

namespace Pcrl.Runtime.Language.Native;

/// <summary>
/// Own kernels inside llama.cpp: products of quantised weights with two rows or more, which are what checking a draft costs. llama.cpp's CPU backend keeps a list
/// of "extra buffer types", for processors' own weight layouts, and asks each entry about every operation before it computes it itself. One more entry answers
/// for Q4_K weights that llama.cpp has laid out anew and for Q6_K weights; llama.cpp's threads call it where they would call their own kernel, so nothing is
/// scheduled, copied or waited for. One row at a time is bound by memory and stays llama.cpp's.
/// <para>
/// The list is no public interface: the entry is made only for the pinned commit (<see cref="LlamaLayout"/>), and each weight's layout is known by the type of
/// the C++ object that llama.cpp has attached to it.
/// </para>
/// </summary>
internal static unsafe partial class LlamaKernels
{
    /// <summary>Set to "off", it leaves all to llama.cpp.</summary>
    private const string Switch = "PCRL_OWN_KERNELS";

    private const int EntryBytes = 64, EntryDevice = 6, EntryContext = 7; // ggml_backend_buffer_type: six functions, then these two

    private static nint _repacked, _interleavedQ4K;
    private static nint* _product;
    private static delegate* unmanaged[Cdecl]<nint, void> _waitForAll;
    private static delegate* unmanaged[Cdecl]<nint, int, void> _setChunk;
    private static delegate* unmanaged[Cdecl]<nint, int, int> _nextChunk;
    private static volatile bool _enabled;

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
        Problem = Environment.GetEnvironmentVariable(Switch) == "off" ? $"{Switch} is off"
            : !OperatingSystem.IsLinux() ? "they know llama.cpp's library for Linux only"
            : QuantisedRows.IsSupported ? LlamaLayout.CommitProblem(Marshal.PtrToStringUTF8((nint)LlamaNative.GgmlCommit())) ?? Register()
            : "this processor has no AVX-512 VBMI";
        Enabled = true;
    }

    /// <summary>Returns what was not as expected, in which case nothing has been changed, or null.</summary>
    private static string? Register()
    {
        nint backend = LlamaNative.BackendByName("CPU");
        nint* location = stackalloc nint[4]; // of dladdr: file, base, symbol, its address
        if (backend == 0 || Locate(backend, location) == 0)
            return "llama.cpp's CPU backend is not to be found";
        nint library = NativeLibrary.Load(Marshal.PtrToStringUTF8(location[0])!);
        foreach (string name in (ReadOnlySpan<string>)[Barrier, SetChunk, NextChunk, InterleavedQ4K, RepackedEntry, RepackedType, Entries])
        {
            if (!NativeLibrary.TryGetExport(library, name, out _))
                return $"llama.cpp's CPU backend does not export {name}";
        }
        nint Find(string name) => NativeLibrary.GetExport(library, name);
        nint repacked = ((delegate* unmanaged[Cdecl]<nint>)Find(RepackedType))();
        nint device = LlamaNative.Device(backend, 0);
        if (((nint*)repacked)[EntryDevice] != device || *(nint*)((nint*)repacked)[EntryContext] != Find(RepackedEntry) + ObjectTable)
            return "llama.cpp's buffer types have another layout";
        // What models may lay their weights into is copied from the list when it is first asked for; this entry must not be there.
        nint copy = LlamaNative.ProcAddress(backend, "ggml_backend_dev_get_extra_bufts");
        if (copy == 0)
            return "llama.cpp's CPU backend does not tell its buffer types";
        ((delegate* unmanaged[Cdecl]<nint, nint*>)copy)(device);
        nint* list = ((delegate* unmanaged[Cdecl]<nint*>)Find(Entries))(); // std::vector: start, end, end of its memory
        var entries = new ReadOnlySpan<nint>((void*)list[0], (int)((list[1] - list[0]) / sizeof(nint)));
        if (!entries.Contains(repacked))
            return "llama.cpp does not lay weights out anew here";

        (_repacked, _interleavedQ4K) = (repacked, Find(InterleavedQ4K) + ObjectTable);
        _waitForAll = (delegate* unmanaged[Cdecl]<nint, void>)Find(Barrier);
        _setChunk = (delegate* unmanaged[Cdecl]<nint, int, void>)Find(SetChunk);
        _nextChunk = (delegate* unmanaged[Cdecl]<nint, int, int>)Find(NextChunk);
        nint nothing = (nint)(delegate* unmanaged[Cdecl]<nint, void>)&Nothing;
        _product = Object(nothing, nothing, (nint)(delegate* unmanaged[Cdecl]<nint, int, GgmlTensor*, nuint*, byte>)&WorkBytes,
            (nint)(delegate* unmanaged[Cdecl]<nint, GgmlWork*, GgmlTensor*, byte>)&Compute);
        nint* entry = Copy([.. new ReadOnlySpan<nint>((void*)repacked, EntryBytes / sizeof(nint))]);
        entry[EntryContext] = (nint)Object(nothing, nothing, (nint)(delegate* unmanaged[Cdecl]<nint, nint, GgmlTensor*, byte>)&CanHold,
            (nint)(delegate* unmanaged[Cdecl]<nint, GgmlTensor*, nint*>)&KernelOf);
        nint* longer = Copy([(nint)entry, .. entries]); // from malloc, as the vector's own memory is, for the vector may free it
        (list[0], list[1], list[2]) = ((nint)longer, (nint)(longer + entries.Length + 1), (nint)(longer + entries.Length + 1));
        return null;
    }

    private const string Barrier = "ggml_barrier", SetChunk = "ggml_threadpool_chunk_set", NextChunk = "ggml_threadpool_chunk_add";
    private const string InterleavedQ4K = "_ZTVN4ggml3cpu6repack13tensor_traitsI10block_q4_KLl8ELl8EL9ggml_type15EEE";
    private const string RepackedEntry = "_ZTVN4ggml3cpu6repack17extra_buffer_typeE", RepackedType = "_Z35ggml_backend_cpu_repack_buffer_typev";
    private const string Entries = "_Z39ggml_backend_cpu_get_extra_buffer_typesv";

    /// <summary>Where the functions begin in a C++ class's table, to which its objects point.</summary>
    private const int ObjectTable = 16;

    [LibraryImport("libc", EntryPoint = "dladdr")]
    private static partial int Locate(nint address, nint* location);

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
        operation->Operation == GgmlTensor.MatrixProduct && _enabled && IsOurs(operation, operation->First, operation->Second) ? _product : null;

    private static bool IsOurs(GgmlTensor* result, GgmlTensor* weights, GgmlTensor* input)
    {
        if (weights->Type is not (GgmlTensor.Q4K or GgmlTensor.Q6K) || weights->Buffer == null || input->Count[1] < 2 || weights->Count[1] % Q4KProduct.Group != 0)
            return false;
        bool isPlain = input->Type == GgmlTensor.F32 && input->Stride[0] == sizeof(float) && result->Stride[0] == sizeof(float)
            && input->Count[2] == 1 && input->Count[3] == 1 && weights->Count[2] == 1 && weights->Count[3] == 1;
        bool isLaidOutAnew = weights->Buffer->Type == _repacked;
        return isPlain && (weights->Type == GgmlTensor.Q4K
            ? isLaidOutAnew && weights->Extra != null && *weights->Extra == _interleavedQ4K
            : !isLaidOutAnew && LlamaNative.IsHost(weights->Buffer->Type));
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
            _setChunk(work->Pool, work->Threads);
        _waitForAll(work->Pool);
        // Weights of a chunk stay in the second-level cache while the tiles pass.
        const int chunksPerThread = 16, mostGroups = 32;
        int chunk = Math.Clamp(groups / (chunksPerThread * work->Threads), 1, mostGroups);
        for (int part = work->Thread; part * chunk < groups; part = _nextChunk(work->Pool, 1))
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
