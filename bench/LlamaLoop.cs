using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Text;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Runtime.Language.Native;

namespace Pcrl.Bench;

/// <summary>
/// What llama.cpp does alone, and the peer of every comparison: the same library, file, device and threads; the prompt in one batch, then one token
/// a batch (of each text, where several are written), computed by llama.cpp's own kernels and drawn by its own samplers (temperature, top-p, draw); each token
/// turned into text.
/// </summary>
internal sealed unsafe partial class LlamaLoop : IDisposable
{
    private const int MostRows = 512;
    private readonly LanguageModel _model;
    private readonly LlamaContextHandle _context;
    private readonly LlamaRows _rows;
    private readonly int _sequences;
    private readonly float[] _head, _tail;

    static LlamaLoop() => NativeLibrary.SetDllImportResolver(typeof(LlamaLoop).Assembly, LlamaLibrary.Resolve);

    /// <param name="model">The model.</param>
    /// <param name="prompt">The text around the visual tokens.</param>
    /// <param name="sequences">Texts written at the same time.</param>
    public LlamaLoop(LanguageModel model, PromptTemplate prompt, int sequences = 1)
    {
        _model = model;
        _sequences = sequences;
        _head = model.Embed(model.Tokenize(prompt.Head, parseSpecial: true));
        _tail = model.Embed(model.Tokenize(prompt.Tail, parseSpecial: true));
        int rows = Math.Min(MostRows, sequences * model.ContextLength);
        _rows = new LlamaRows(rows, model.Width);
        _context = LlamaContextHandle.Create(model, new LlamaContextSize(model.ContextLength, sequences, rows, Outputs: sequences));
    }

    /// <summary>One text in the loop.</summary>
    private sealed class Text(TokenText text, nint samplers)
    {
        private readonly StringBuilder _written = new();

        public nint Samplers => samplers;

        public int Last { get; set; }

        public int Position { get; set; }

        public int Tokens { get; set; }

        public void Append(int token) => text.Append(token, _written);
    }

    /// <summary>Writes texts, as many at a time as the loop was made for, and returns the number of all their tokens.</summary>
    /// <param name="texts">Visual tokens [visual tokens, width] and sampling of each.</param>
    /// <param name="drawn">Told after each draw, that of the end included, if given.</param>
    public int Run(IReadOnlyList<(float[] Visual, SamplingOptions Sampling)> texts, Action? drawn = null)
    {
        LlamaKernels.Enabled = false; // nothing else is decoding in the loop's turn
        try
        {
            return Write(texts, drawn);
        }
        finally
        {
            LlamaKernels.Enabled = true;
        }
    }

    private int Write(IReadOnlyList<(float[] Visual, SamplingOptions Sampling)> texts, Action? drawn)
    {
        LlamaNative.ClearMemory(LlamaNative.Memory(_context), data: false);
        var slots = new Text?[_sequences];
        int next = 0, tokens = 0;
        var (ids, positions, sequences, counts) = (new int[_sequences], new int[_sequences], new int[_sequences], new int[_sequences]);
        int** lists = stackalloc int*[_sequences];
        sbyte* outputs = stackalloc sbyte[_sequences];
        Array.Fill(counts, 1);
        new Span<sbyte>(outputs, _sequences).Fill(1);
        fixed (int* id = ids, position = positions, sequence = sequences, count = counts)
        {
            while (true)
            {
                next += Begin(slots, texts.Skip(next), drawn);
                int rows = 0;
                for (int slot = 0; slot < slots.Length; slot++)
                {
                    if (slots[slot] is { } text)
                    {
                        (ids[rows], positions[rows], sequences[rows]) = (text.Last, text.Position++, slot);
                        lists[rows] = sequence + rows;
                        rows++;
                    }
                }
                if (rows == 0)
                {
                    if (next == texts.Count)
                        return tokens;
                    continue;
                }
                _context.Decode(new LlamaBatch { Count = rows, Tokens = id, Positions = position, SequenceCounts = count, Sequences = lists, Outputs = outputs });
                for (int row = 0; row < rows; row++)
                    Draw(slots, sequences[row], row, texts, drawn);
            }
        }

        int Begin(Text?[] slots, IEnumerable<(float[] Visual, SamplingOptions Sampling)> waiting, Action? drawn)
        {
            _rows.Clear();
            var begun = new List<(int Slot, int Row)>();
            foreach (var (visual, sampling) in waiting)
            {
                int slot = Array.IndexOf(slots, null);
                float[] prompt = [.. _head, .. visual, .. _tail];
                int length = prompt.Length / _model.Width;
                if (slot < 0 || _rows.Count + length > _rows.Capacity)
                    break;
                LlamaNative.Forget(LlamaNative.Memory(_context), slot, 0, -1);
                for (int at = 0; at < length; at++)
                    prompt.AsSpan(at * _model.Width, _model.Width).CopyTo(_rows.Add(slot, at, output: at == length - 1));
                slots[slot] = new Text(_model.NewText(), Samplers(sampling)) { Position = length };
                begun.Add((slot, _rows.Count - 1));
            }
            if (begun.Count > 0)
                _context.Decode(_rows.Batch);
            foreach (var (slot, row) in begun)
                Draw(slots, slot, row, texts, drawn);
            return begun.Count;
        }

        void Draw(Text?[] slots, int slot, int row, IReadOnlyList<(float[] Visual, SamplingOptions Sampling)> texts, Action? drawn)
        {
            var text = slots[slot]!;
            text.Last = Sample(text.Samplers, _context, row);
            drawn?.Invoke();
            bool ends = _model.EndsText(text.Last);
            if (!ends)
            {
                text.Append(text.Last);
                text.Tokens++;
                tokens++;
            }
            if (!ends && text.Tokens < texts[0].Sampling.MaxTokens && text.Position < _model.ContextLength)
                return;
            ChainFree(text.Samplers);
            slots[slot] = null;
        }
    }

    /// <summary>What batches of some texts and widths take behind prompts, with our kernels and with llama.cpp's in turn; medians, each width warmed up.</summary>
    /// <param name="model">The model.</param>
    /// <param name="texts">Texts in the context.</param>
    /// <param name="prompt">Rows that each of them has read.</param>
    /// <param name="widths">Rows of each of them in a batch.</param>
    /// <param name="rounds">Measurements of each width and of each kind of kernels.</param>
    /// <param name="processorTime">Processor time in place of wall time.</param>
    /// <param name="cancellation">Stops between two batches.</param>
    public static List<BatchCost> BatchCosts(LanguageModel model, int texts, int prompt, IReadOnlyList<int> widths, int rounds, bool processorTime, CancellationToken cancellation)
    {
        int most = widths.Max();
        using var rows = new LlamaRows(Math.Max(prompt, texts * most), model.Width);
        using var context = LlamaContextHandle.Create(model, new LlamaContextSize(prompt + most, texts, rows.Capacity, texts * most));
        void Add(int text, int position, bool output) => model.Embed(position % 200, rows.Add(text, position, output));

        for (int text = 0; text < texts; text++)
        {
            rows.Clear();
            for (int position = 0; position < prompt; position++)
                Add(text, position, output: false);
            context.Decode(rows.Batch);
        }
        var costs = new List<BatchCost>();
        foreach (int width in widths)
        {
            rows.Clear();
            for (int text = 0; text < texts; text++)
            {
                for (int position = prompt; position < prompt + width; position++)
                    Add(text, position, output: true);
            }
            var (ours, theirs) = (new List<double>(), new List<double>());
            for (int round = 0; round < 2 * (rounds + 1); round++)
            {
                cancellation.ThrowIfCancellationRequested();
                LlamaKernels.Enabled = round % 2 == 0;
                var start = Timing.Now(processorTime);
                context.Decode(rows.Batch);
                context.Logits(rows.Count - 1, 1);
                if (round > 1)
                    (round % 2 == 0 ? ours : theirs).Add((Timing.Now(processorTime) - start).TotalMilliseconds);
                for (int text = 0; text < texts; text++)
                    LlamaNative.Forget(LlamaNative.Memory(context), text, prompt, -1);
            }
            LlamaKernels.Enabled = true;
            costs.Add(new BatchCost(texts, width, ours.Median(), theirs.Median(), costs.Count > 0 ? ours.Median() / costs[0].LlamacppMilliseconds : 1));
        }
        return costs;
    }

    private static nint Samplers(SamplingOptions sampling)
    {
        nint chain = ChainNew(new ChainParams { NoPerformance = 1 });
        if (sampling.Temperature == 0)
            ChainAdd(chain, Greedy());
        else
        {
            ChainAdd(chain, Temperature(sampling.Temperature));
            ChainAdd(chain, TopP(sampling.TopP, 1));
            ChainAdd(chain, Draw((uint)sampling.Seed));
        }
        return chain;
    }

    public void Dispose()
    {
        _context.Dispose();
        _rows.Dispose();
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
