using System.Runtime.InteropServices;
using System.Runtime.CompilerServices;

namespace Pcrl.Runtime.Language.Native;

/// <summary>The functions of llama.cpp that are used, and no others. <see cref="LlamaLibrary.Load"/> must have run before any of them.</summary>
internal static unsafe partial class LlamaNative
{
    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_version")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial byte* Version();

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_log_set")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial void SetLog(delegate* unmanaged[Cdecl]<int, byte*, void*, void> callback, void* data);

    /// <summary>The default parameters into memory of our own: structures of this size come back through a hidden first pointer.</summary>
    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_model_default_params")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial void* ProbeModelDefaults(byte* result);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_context_default_params")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial void* ProbeContextDefaults(byte* result);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_model_default_params")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial LlamaModelParams ModelDefaults();

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_context_default_params")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial LlamaContextParams ContextDefaults();

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_model_load_from_file", StringMarshalling = StringMarshalling.Utf8)]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial LlamaModelHandle LoadModel(string path, LlamaModelParams parameters);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_model_free")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial void FreeModel(nint model);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_model_n_embd")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial int ModelWidth(LlamaModelHandle model);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_model_get_vocab")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial nint Vocabulary(LlamaModelHandle model);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_init_from_model")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial LlamaContextHandle CreateContext(LlamaModelHandle model, LlamaContextParams parameters);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_free")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial void FreeContext(nint context);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_get_memory")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial nint Memory(LlamaContextHandle context);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_memory_clear")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial void ClearMemory(nint memory, [MarshalAs(UnmanagedType.U1)] bool data);

    /// <summary>Forgets a sequence's positions from <paramref name="first"/> up to, not including, <paramref name="end"/>; negative: to the end.</summary>
    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_memory_seq_rm")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    [return: MarshalAs(UnmanagedType.U1)]
    public static partial bool Forget(nint memory, int sequence, int first, int end);

    /// <summary>Copies what a sequence holds to another, whose own is lost; the ends of the range are negative, for all of it: llama.cpp copies nothing less.</summary>
    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_memory_seq_cp")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial void Copy(nint memory, int from, int to, int first, int end);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_set_abort_callback")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial void SetAbortCallback(LlamaContextHandle context, delegate* unmanaged[Cdecl]<void*, byte> callback, void* data);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_decode")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial int Decode(LlamaContextHandle context, LlamaBatch batch);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_synchronize")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial void Synchronise(LlamaContextHandle context);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_get_logits_ith")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial float* Logits(LlamaContextHandle context, int index);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_vocab_n_tokens")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial int VocabularySize(nint vocabulary);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_vocab_is_eog")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    [return: MarshalAs(UnmanagedType.U1)]
    public static partial bool IsEndOfGeneration(nint vocabulary, int token);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_tokenize")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial int Tokenize(
        nint vocabulary, byte* text, int textBytes, int* tokens, int capacity,
        [MarshalAs(UnmanagedType.U1)] bool addSpecial, [MarshalAs(UnmanagedType.U1)] bool parseSpecial);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_token_to_piece")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial int TokenToPiece(
        nint vocabulary, int token, byte* piece, int capacity, int leadingSpaces, [MarshalAs(UnmanagedType.U1)] bool special);

    [LibraryImport(LlamaLibrary.Ggml, EntryPoint = "ggml_backend_load_all_from_path", StringMarshalling = StringMarshalling.Utf8)]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial void LoadBackends(string folder);

    [LibraryImport(LlamaLibrary.Ggml, EntryPoint = "ggml_backend_reg_by_name", StringMarshalling = StringMarshalling.Utf8)]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial nint BackendByName(string name);

    [LibraryImport(LlamaLibrary.Ggml, EntryPoint = "ggml_backend_load", StringMarshalling = StringMarshalling.Utf8)]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial nint LoadBackend(string path);

    [LibraryImport(LlamaLibrary.GgmlBase, EntryPoint = "ggml_backend_reg_dev_count")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial nuint DeviceCount(nint backend);

    [LibraryImport(LlamaLibrary.GgmlBase, EntryPoint = "ggml_backend_reg_dev_get")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial nint Device(nint backend, nuint index);

    [LibraryImport(LlamaLibrary.GgmlBase, EntryPoint = "ggml_backend_dev_description")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial byte* DeviceDescription(nint device);

    [LibraryImport(LlamaLibrary.GgmlBase, EntryPoint = "ggml_backend_buft_is_host")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    [return: MarshalAs(UnmanagedType.U1)]
    public static partial bool IsHost(nint bufferType);

    [LibraryImport(LlamaLibrary.GgmlBase, EntryPoint = "ggml_backend_reg_get_proc_address", StringMarshalling = StringMarshalling.Utf8)]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial nint ProcAddress(nint backend, string name);

    [LibraryImport(LlamaLibrary.GgmlBase, EntryPoint = "ggml_commit")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial byte* GgmlCommit();

    [LibraryImport(LlamaLibrary.GgmlBase, EntryPoint = "ggml_get_type_traits")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial GgmlTypeTraits* TypeTraits(int type);

    [LibraryImport(LlamaLibrary.GgmlBase, EntryPoint = "ggml_quantize_chunk")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    public static partial nuint QuantizeChunk(int type, float* values, void* blocks, long start, long rows, long rowLength, float* importance);
}
