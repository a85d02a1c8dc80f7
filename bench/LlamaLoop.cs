using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Runtime.Language.Native;

namespace Pcrl.Bench;

/// <summary>
/// What llama.cpp does alone, and the peer of every comparison: the same library, file and threads; the prompt in one batch, then one token a
/// batch, drawn by llama.cpp's own samplers (temperature, top-p, draw); each token turned into text.
/// </summary>
internal sealed unsafe partial class LlamaLoop : IDisposable
{
    private readonly LanguageModel _model;
    private readonly LlamaContextHandle _context;
    private readonly float[] _head, _tail;
    private readonly nint _samplers;

    static LlamaLoop() => NativeLibrary.SetDllImportResolver(typeof(LlamaLoop).Assembly, LlamaLibrary.Resolve);

    public LlamaLoop(LanguageModel model, PromptTemplate prompt, SamplingOptions sampling)
    {
        _model = model;
        _head = model.Embed(model.Tokenize(prompt.Head, parseSpecial: true));
        _tail = model.Embed(model.Tokenize(prompt.Tail, parseSpecial: true));
        _context = LlamaContextHandle.Create(model.Handle, new LlamaContextSize(model.ContextLength, 1, Math.Min(512, model.ContextLength), 1, Exact: false), model.Threads);
        _samplers = ChainNew(new ChainParams { NoPerformance = 1 });
        if (sampling.Temperature == 0)
            ChainAdd(_samplers, Greedy());
        else
        {
            ChainAdd(_samplers, Temperature(sampling.Temperature));
            ChainAdd(_samplers, TopP(sampling.TopP, 1));
            ChainAdd(_samplers, Draw((uint)sampling.Seed));
        }
    }

    /// <summary>Writes one text and returns the number of its tokens.</summary>
    /// <param name="visualTokens">[visual tokens, width]</param>
    /// <param name="mostTokens">Where to stop.</param>
    public int Run(float[] visualTokens, int mostTokens)
    {
        LlamaNative.ClearMemory(LlamaNative.Memory(_context), data: false);
        float[] prompt = [.. _head, .. visualTokens, .. _tail];
        fixed (float* rows = prompt)
            _context.Decode(new LlamaBatch { Count = prompt.Length / _model.Width, Embeddings = rows });
        int position = prompt.Length / _model.Width, tokens = 0;
        var text = _model.NewText();
        while (true)
        {
            int token = Sample(_samplers, _context, -1);
            if (_model.EndsText(token))
                return tokens;
            text.Append(token);
            if (++tokens == mostTokens || position++ == _model.ContextLength)
                return tokens;
            _context.Decode(new LlamaBatch { Count = 1, Tokens = &token });
        }
    }

    /// <summary>Seconds of a batch of some rows behind a prompt, median of several.</summary>
    public static double BatchSeconds(LanguageModel model, int prompt, int rows, int rounds, bool processorTime)
    {
        using var context = LlamaContextHandle.Create(model.Handle, new LlamaContextSize(prompt + rows, 1, prompt + rows, rows, Exact: false), model.Threads);
        float[] embeddings = model.Embed([.. Enumerable.Range(0, prompt + rows).Select(i => i % 200)]);
        var outputs = new sbyte[rows];
        Array.Fill(outputs, (sbyte)1);
        var times = new List<double>();
        fixed (float* all = embeddings)
        fixed (sbyte* wanted = outputs)
        {
            context.Decode(new LlamaBatch { Count = prompt, Embeddings = all });
            for (int round = 0; round <= rounds; round++)
            {
                var start = Timing.Now(processorTime);
                context.Decode(new LlamaBatch { Count = rows, Embeddings = all + (long)prompt * model.Width, Outputs = wanted });
                context.Logits(rows - 1, 1);
                if (round > 0) // the first one warms up
                    times.Add((Timing.Now(processorTime) - start).TotalSeconds);
                LlamaNative.Forget(LlamaNative.Memory(context), 0, prompt, -1);
            }
        }
        return times.Order().ElementAt(times.Count / 2);
    }

    public void Dispose()
    {
        ChainFree(_samplers);
        _context.Dispose();
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ChainParams
    {
        public byte NoPerformance;
    }

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_sampler_chain_init")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    private static partial nint ChainNew(ChainParams parameters);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_sampler_chain_add")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    private static partial void ChainAdd(nint chain, nint sampler);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_sampler_init_greedy")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    private static partial nint Greedy();

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_sampler_init_temp")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    private static partial nint Temperature(float temperature);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_sampler_init_top_p")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    private static partial nint TopP(float p, nuint fewest);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_sampler_init_dist")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    private static partial nint Draw(uint seed);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_sampler_sample")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    private static partial int Sample(nint chain, LlamaContextHandle context, int row);

    [LibraryImport(LlamaLibrary.Llama, EntryPoint = "llama_sampler_free")]
    [UnmanagedCallConv(CallConvs = [typeof(CallConvCdecl)])]
    private static partial void ChainFree(nint chain);
}
