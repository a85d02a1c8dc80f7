using System.Collections.Concurrent;
using System.Runtime.InteropServices;

namespace Pcrl.Runtime.Language.Native;

/// <summary>What llama.cpp computes on: the CPU, or all cards of one GPU backend. A backend is loaded when it is first asked for.</summary>
/// <param name="Kind">What was opened; never <see cref="LanguageDevice.Auto"/>.</param>
/// <param name="Cards">llama.cpp's handles of the cards; none for the CPU.</param>
/// <param name="Choice">Few words: what was chosen and why.</param>
internal sealed unsafe record LlamaDevice(LanguageDevice Kind, IReadOnlyList<nint> Cards, string Choice)
{
    private static readonly ConcurrentDictionary<LanguageDevice, (IReadOnlyList<nint> Cards, string? Problem)> Backends = new();

    /// <summary>Opens a device. Where a GPU cannot be used it is the CPU, and <see cref="Choice"/> says why.</summary>
    public static LlamaDevice Open(LanguageDevice wish)
    {
        LlamaLibrary.Load();
        if (wish == LanguageDevice.Cpu)
            return Cpu("asked for");
        var problems = new List<string>();
        foreach (var kind in wish == LanguageDevice.Auto ? [LanguageDevice.Cuda, LanguageDevice.Vulkan] : (LanguageDevice[])[wish])
        {
            var (cards, problem) = Backends.GetOrAdd(kind, static kind => LlamaThread.Run(() => Load(kind)));
            if (problem is null)
                return new LlamaDevice(kind, cards, $"{Name(kind)} ({string.Join(", ", cards.Select(Describe))})");
            problems.Add(problem);
        }
        return Cpu(wish == LanguageDevice.Auto ? string.Join("; ", problems) : $"warning: {Name(wish)} was asked for, but {problems[0]}");
    }

    /// <summary>The CPU.</summary>
    /// <param name="why">Why it.</param>
    public static LlamaDevice Cpu(string why) => new(LanguageDevice.Cpu, [], $"cpu ({why})");

    private static string Name(LanguageDevice kind) => kind.ToString().ToLowerInvariant();

    private static string Describe(nint card) => Marshal.PtrToStringUTF8((nint)LlamaNative.DeviceDescription(card)) ?? "no name";

    private static (IReadOnlyList<nint> Cards, string? Problem) Load(LanguageDevice kind)
    {
        string path = Path.Combine(LlamaLibrary.Folder, Name(kind), $"libggml-{Name(kind)}.so");
        if (!File.Exists(path))
            return ([], $"this build has no {Name(kind)} backend of llama.cpp");
        try
        {
            if (kind == LanguageDevice.Cuda && CudaCode.Problem(path) is { } problem)
                return ([], $"{path}: {problem}");
            NativeLibrary.Load(path); // llama.cpp does not say which library is missing
        }
        catch (Exception e) when (e is DllNotFoundException or EntryPointNotFoundException or BadImageFormatException or IOException or UnauthorizedAccessException)
        {
            // The runtime's message gives advice first; what the linker said stands last.
            return ([], e.Message.Split('\n', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)[^1]);
        }
        nint backend = LlamaNative.LoadBackend(path);
        if (backend == 0)
            return ([], $"llama.cpp cannot use {path} ({LlamaLibrary.TakeErrors()})");
        int count = (int)LlamaNative.DeviceCount(backend);
        return count > 0
            ? ([.. Enumerable.Range(0, count).Select(i => LlamaNative.Device(backend, (nuint)i))], null)
            : ([], $"{Name(kind)} finds no card");
    }
}
