using System.Collections.Concurrent;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;

namespace Pcrl.Runtime.Language.Native;

/// <summary>
/// Finds llama.cpp in <c>native/llama</c> beside the program (the build puts it there), checks that it is the pinned release,
/// and silences it.
/// </summary>
internal static unsafe partial class LlamaLibrary
{
    public const string Llama = "llama";
    public const string Ggml = "ggml";
    public const string GgmlBase = "ggml-base";
    private const int LogError = 4;
    private const int LogContinuation = 5;

    private static readonly Lazy<bool> Loaded = new(LoadOnce);
    private static readonly ConcurrentDictionary<string, nint> Libraries = new();
    private static readonly Lock LogLock = new();
    private static string _errors = "";
    private static bool _lastWasError;

    /// <summary>The folder with the native libraries.</summary>
    public static string Folder { get; } = Path.Combine(AppContext.BaseDirectory, "native", "llama");

    /// <summary>Loads the library and its backends, once per process.</summary>
    /// <exception cref="InputException">It is missing, cannot be loaded here, or is another release.</exception>
    public static void Load() => _ = Loaded.Value;

    /// <summary>The error lines llama.cpp has logged since the last call, in one line, for messages of ours.</summary>
    public static string TakeErrors()
    {
        lock (LogLock)
        {
            string errors = string.Join("; ", _errors.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries));
            _errors = "";
            return errors.Length > 0 ? errors : "no reason given";
        }
    }

    /// <summary>How many of its layers the model loaded last has on a GPU, in llama.cpp's words: "33/33".</summary>
    public static string Offloaded { get; private set; } = "unknown";

    private static bool LoadOnce()
    {
        NativeLibrary.SetDllImportResolver(typeof(LlamaLibrary).Assembly, Resolve);
        try
        {
            Refuse(LlamaLayout.ModelProblem(Probe(&LlamaNative.ProbeModelDefaults)));
            Refuse(LlamaLayout.ContextProblem(Probe(&LlamaNative.ProbeContextDefaults)));
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException or BadImageFormatException)
        {
            throw new InputException(Folder, $"llama.cpp cannot be loaded ({e.Message})", e);
        }
        LlamaNative.SetLog(&Log, null);
        LlamaNative.LoadBackends(Folder);
        LlamaKernels.Install();
        return true;
    }

    /// <summary>Calls as the typed import does (structures of this size come back through a hidden pointer), but with room to spare.</summary>
    private static byte[] Probe(delegate*<byte*, void*> defaults)
    {
        var bytes = new byte[LlamaLayout.ProbeBytes];
        Array.Fill(bytes, LlamaLayout.Untouched);
        fixed (byte* start = bytes)
            defaults(start);
        return bytes;
    }

    private static void Refuse(string? problem)
    {
        if (problem is not null)
            throw new InputException(Folder, $"is not llama.cpp {LlamaLayout.Version}: {problem}");
    }

    /// <summary>Asked once per imported function, so the answers are kept.</summary>
    internal static nint Resolve(string library, Assembly assembly, DllImportSearchPath? path) => Libraries.GetOrAdd(library, static name => name switch
    {
        Llama => NativeLibrary.Load(Find($"libllama.v{LlamaLayout.Version}.so")),
        Ggml => NativeLibrary.Load(Find($"libggml.v{LlamaLayout.Version}.so")),
        GgmlBase => NativeLibrary.Load(Find("libggml-base.so")),
        _ => 0, // not ours: the runtime's own search
    });

    private static string Find(string name)
    {
        string path = Path.Combine(Folder, name);
        return File.Exists(path) ? path : throw new InputException(Folder, $"has no {name}; build again with Node.js and npm at hand");
    }

    [GeneratedRegex(@"offloaded (\d+/\d+) layers to GPU")]
    private static partial Regex OffloadedLayers();

    [UnmanagedCallersOnly(CallConvs = [typeof(CallConvCdecl)])]
    private static void Log(int level, byte* text, void* data)
    {
        lock (LogLock)
        {
            bool isError = level == LogError || (level == LogContinuation && _lastWasError);
            _lastWasError = isError;
            string line = Marshal.PtrToStringUTF8((nint)text) ?? "";
            if (isError && _errors.Length < 4096) // the first errors tell the cause
                _errors += line;
            if (OffloadedLayers().Match(line) is { Success: true } match)
                Offloaded = match.Groups[1].Value;
        }
    }
}
