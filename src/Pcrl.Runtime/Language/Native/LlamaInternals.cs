using System.Runtime.InteropServices;

namespace Pcrl.Runtime.Language.Native;

/// <summary>What <see cref="LlamaKernels"/> uses of llama.cpp's inside. It has no public interface, so all of it is found and looked at before anything is changed.</summary>
internal unsafe partial struct LlamaInternals
{
    /// <summary>A buffer type, <c>ggml_backend_buffer_type</c>, in machine words: six functions, then the device and the context.</summary>
    public const int EntryWords = 8, EntryDevice = 6, EntryContext = 7;

    private const string Barrier = "ggml_barrier", SetChunkName = "ggml_threadpool_chunk_set", NextChunkName = "ggml_threadpool_chunk_add";
    private const string InterleavedQ4KTable = "_ZTVN4ggml3cpu6repack13tensor_traitsI10block_q4_KLl8ELl8EL9ggml_type15EEE";
    private const string RepackedTable = "_ZTVN4ggml3cpu6repack17extra_buffer_typeE", RepackedType = "_Z35ggml_backend_cpu_repack_buffer_typev";
    private const string EntriesName = "_Z39ggml_backend_cpu_get_extra_buffer_typesv";

    /// <summary>Where the functions begin in a C++ class's table, to which its objects point.</summary>
    private const int ObjectTable = 16;

    /// <summary>The buffer type of weights that were laid out anew.</summary>
    public nint Repacked;

    /// <summary>To what the objects point that llama.cpp attaches to interleaved Q4_K weights.</summary>
    public nint InterleavedQ4K;

    /// <summary>The list of extra buffer types, a <c>std::vector</c>: start, end, end of its memory.</summary>
    public nint* Entries;

    public delegate* unmanaged[Cdecl]<nint, void> WaitForAll;
    public delegate* unmanaged[Cdecl]<nint, int, void> SetChunk;
    public delegate* unmanaged[Cdecl]<nint, int, int> NextChunk;

    /// <summary>What a <c>std::vector</c> of pointers holds.</summary>
    public static ReadOnlySpan<nint> Items(nint* vector) => new((void*)vector[0], (int)((vector[1] - vector[0]) / sizeof(nint)));

    /// <summary>Finds everything in the library of llama.cpp's CPU backend. Returns what is not as expected, or null.</summary>
    public static string? Find(out LlamaInternals found)
    {
        found = default;
        nint backend = LlamaNative.BackendByName("CPU");
        nint* location = stackalloc nint[4]; // of dladdr: file, base, symbol, its address
        if (backend == 0 || Locate(backend, location) == 0)
            return "llama.cpp's CPU backend is not to be found";
        nint library = NativeLibrary.Load(Marshal.PtrToStringUTF8(location[0])!);
        return Find(
            name => NativeLibrary.TryGetExport(library, name, out nint address) ? address : 0, LlamaNative.Device(backend, 0),
            LlamaNative.ProcAddress(backend, "ggml_backend_dev_get_extra_bufts"), out found);
    }

    /// <summary>The same, told what the library has.</summary>
    /// <param name="export">The address of an exported name, or 0.</param>
    /// <param name="device">The backend's device.</param>
    /// <param name="extraTypes">The function that tells what models may lay their weights into, or 0.</param>
    /// <param name="found">All of it, if null is returned.</param>
    internal static string? Find(Func<string, nint> export, nint device, nint extraTypes, out LlamaInternals found)
    {
        found = default;
        foreach (string name in (ReadOnlySpan<string>)[Barrier, SetChunkName, NextChunkName, InterleavedQ4KTable, RepackedTable, RepackedType, EntriesName])
        {
            if (export(name) == 0)
                return $"llama.cpp's CPU backend does not export {name}";
        }
        nint repacked = ((delegate* unmanaged[Cdecl]<nint>)export(RepackedType))();
        if (((nint*)repacked)[EntryDevice] != device || *(nint*)((nint*)repacked)[EntryContext] != export(RepackedTable) + ObjectTable)
            return "llama.cpp's buffer types have another layout";
        // What models may lay their weights into is copied from the list when it is first asked for; the entry to come must not be there.
        if (extraTypes == 0)
            return "llama.cpp's CPU backend does not tell its buffer types";
        ((delegate* unmanaged[Cdecl]<nint, nint*>)extraTypes)(device);
        nint* list = ((delegate* unmanaged[Cdecl]<nint*>)export(EntriesName))();
        if (!Items(list).Contains(repacked))
            return "llama.cpp does not lay weights out anew here";
        found = new LlamaInternals
        {
            Repacked = repacked, InterleavedQ4K = export(InterleavedQ4KTable) + ObjectTable, Entries = list,
            WaitForAll = (delegate* unmanaged[Cdecl]<nint, void>)export(Barrier),
            SetChunk = (delegate* unmanaged[Cdecl]<nint, int, void>)export(SetChunkName),
            NextChunk = (delegate* unmanaged[Cdecl]<nint, int, int>)export(NextChunkName),
        };
        return null;
    }

    [LibraryImport("libc", EntryPoint = "dladdr")]
    private static partial int Locate(nint address, nint* location);
}
