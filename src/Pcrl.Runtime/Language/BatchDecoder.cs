using System.Collections.Concurrent;
using System.Runtime.CompilerServices;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language.Native;

namespace Pcrl.Runtime.Language;

/// <summary>How texts are decoded.</summary>
public sealed record DecodingOptions
{
    /// <summary>Texts written at the same time, 1 to <see cref="BatchDecoder.MostSequences"/>; more wait for their turn.</summary>
    public int Sequences { get; init; } = 1;

    /// <summary>Drafts the next tokens and checks them in one batch. It changes how long a text takes and, but for the rounding of a device's kernels, not the text.</summary>
    public bool Speculation { get; init; } = true;

    /// <summary>Findings from which the drafts are made; without any a text can only repeat itself.</summary>
    public IReadOnlyList<string> Phrases { get; init; } = [];

    /// <summary>
    /// Longest draft; null for what the kernels take well: six rows in llama.cpp's on the CPU, twelve in ours, eight in Vulkan, sixteen in CUDA. How much of it
    /// goes into a batch is learnt from what batches take (<see cref="DraftPolicy"/>).
    /// </summary>
    internal int? MostDrafted { get; init; }

    /// <summary>Puts whole drafts into the batch, whatever they cost: to measure how many of them are accepted.</summary>
    internal bool WholeDrafts { get; init; }

    /// <summary>Logits of a batch from which on its rows are drawn from on all cores: 128,256 of them take one 0.1 ms, and a draft on a card has sixteen such rows.</summary>
    internal int LogitsForThreads { get; init; } = 1 << 18;
}

/// <summary>
/// Writes texts with a <see cref="LanguageModel"/>, several at a time in one llama.cpp context (continuous batching: a text joins and leaves
/// between two batches). The head of the prompt is read once and stays in the context; a text costs what follows it. Each batch holds, for every text, its unread
/// rows and a draft of what comes next, of one length for all; of the draft, those tokens stay that are drawn anyway. A text that fails takes no other down: what
/// shared a failed batch is read again, one at a time. A model too small for several threads has several such contexts where there are cores for them, each with a thread
/// of its own; a text goes to whoever is free.
/// </summary>
public sealed partial class BatchDecoder : IDisposable
{
    /// <summary>Most texts at a time.</summary>
    public const int MostSequences = 30;

    private const int MostRows = 512; // llama.cpp's own physical batch; 30 texts with full drafts are at most 480

    /// <summary>Texts below which a context of their own is not worth it: rows that share a batch cost less.</summary>
    private const int FewestOfWriter = 4;

    private readonly LanguageModel _model;
    private readonly DecodingOptions _options;
    private readonly float[] _head, _tail;
    private readonly BlockingCollection<Sequence> _arrivals = new(new ConcurrentQueue<Sequence>());
    private readonly Task<PhraseModel>? _phrases;
    private readonly int _mostDrafted;
    private readonly CancellationTokenSource _closing = new();
    private readonly List<Writer> _writers = [];
    private Exception? _ended; // why no more texts are taken

    /// <summary>Makes a decoder for one prompt.</summary>
    /// <param name="model">The model; must live longer.</param>
    /// <param name="prompt">The text around the visual tokens.</param>
    /// <param name="options">How many texts at a time, and how.</param>
    /// <exception cref="InputException">An option is out of range, the prompt does not fit, or memory is short.</exception>
    public BatchDecoder(LanguageModel model, PromptTemplate prompt, DecodingOptions options)
    {
        if (options.Sequences is < 1 or > MostSequences)
            throw new InputException("sequences", $"must be between 1 and {MostSequences}, is {options.Sequences}");
        _model = model;
        _options = options;
        _mostDrafted = !options.Speculation ? 0 : options.MostDrafted ?? model.Device.Kind switch
        {
            LanguageDevice.Cuda => 15,
            LanguageDevice.Vulkan => 7,
            _ => model.HasOwnKernels ? 11 : 5,
        };
        _head = model.Embed(model.Tokenize(prompt.Head, parseSpecial: true));
        _tail = model.Embed(model.Tokenize(prompt.Tail, parseSpecial: true));
        if (HeadLength + _tail.Length / model.Width >= model.ContextLength)
            throw new InputException("prompt", $"has {HeadLength + _tail.Length / model.Width} tokens, the context has room for {model.ContextLength - 1}");
        int writers = Math.Clamp(model.MostContexts, 1, Math.Max(1, options.Sequences / FewestOfWriter));
        try
        {
            for (int i = 0; i < writers; i++)
                _writers.Add(new Writer(this, (options.Sequences + i) / writers));
        }
        catch
        {
            Dispose();
            throw;
        }
        // Learnt beside the first prompt; a text that is faster goes without a draft until then.
        if (options.Speculation)
            _phrases = Task.Run(() => new PhraseModel(options.Phrases.TakeWhile(_ => !_closing.IsCancellationRequested).Select(text => model.Tokenize(text)), model.EndToken));
        foreach (var writer in _writers)
            writer.Start();
    }

    private int HeadLength => _head.Length / _model.Width;

    /// <summary>Texts that are written at the same time.</summary>
    public int Sequences => _options.Sequences;

    /// <summary>Contexts that write them, side by side.</summary>
    internal int Contexts => _writers.Count;

    /// <summary>Writes a text. The last piece carries the <see cref="GenerationSummary"/>.</summary>
    /// <param name="visualTokens">[visual tokens, width], row-major; may be empty.</param>
    /// <param name="sampling">How tokens are drawn.</param>
    /// <param name="cancellation">Ends it at any point; the others go on.</param>
    /// <exception cref="ArgumentException">The visual tokens have another width.</exception>
    /// <exception cref="InputException">
    /// The prompt does not fit the context, an option is out of range, a visual token is not finite, or the model gives no finite logits.
    /// </exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public async IAsyncEnumerable<GeneratedPiece> GenerateAsync(
        ReadOnlyMemory<float> visualTokens, SamplingOptions sampling, [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        cancellation.ThrowIfCancellationRequested();
        var sequence = NewSequence(visualTokens.Span, sampling);
        using var registration = cancellation.UnsafeRegister(_ => Cancel(sequence), null);
        try
        {
            try
            {
                _arrivals.Add(sequence, cancellation);
            }
            catch (InvalidOperationException) when (_ended is { } cause)
            {
                throw cause;
            }
            await foreach (var piece in sequence.Pieces.ReadAllAsync(cancellation).ConfigureAwait(false))
                yield return piece;
        }
        finally
        {
            Cancel(sequence); // nobody reads on
        }
    }

    /// <summary>A batch that is done.</summary>
    /// <param name="Llamacpp">What it took llama.cpp.</param>
    /// <param name="Whole">What it took in all.</param>
    /// <param name="Slots">Slots of its texts, in the order of their rows.</param>
    internal sealed record DecodedBatch(TimeSpan Llamacpp, TimeSpan Whole, IReadOnlyList<int> Slots);

    /// <summary>Told of each batch, on the thread of its context: to see where the time goes.</summary>
    internal Action<DecodedBatch>? Stepped { get; init; }

    /// <summary>What is taken where a drafted token was checked.</summary>
    /// <param name="sampler">Draws the text's tokens.</param>
    /// <param name="logits">Of the place.</param>
    /// <param name="drafted">What was drafted for it.</param>
    /// <param name="drawn">What was drawn.</param>
    internal delegate int Acceptance(Sampler sampler, ReadOnlySpan<float> logits, int drafted, int drawn);

    /// <summary>Another rule than what was drawn, which is the only right one: for the test that has to find a wrong one.</summary>
    internal Acceptance? WrongRule { get; init; }

    /// <summary>Waits until the phrases are learnt; texts before that are written without drafts.</summary>
    internal void WaitUntilReady() => _phrases?.Wait();

    private Sequence NewSequence(ReadOnlySpan<float> visualTokens, SamplingOptions sampling)
    {
        int width = _model.Width;
        if (visualTokens.Length % width != 0)
            throw new ArgumentException($"{visualTokens.Length} values are no whole visual tokens of width {width}", nameof(visualTokens));
        float[] prompt = [.. visualTokens, .. _tail];
        int textTokens = (_head.Length + _tail.Length) / width, length = (_head.Length + prompt.Length) / width;
        if (length == 0 || length >= _model.ContextLength)
            throw new InputException("prompt", $"has {length} tokens, the context has room for 1 to {_model.ContextLength - 1}");
        // One row that is not a number would spoil the cells that all texts share.
        if (!visualTokens.IsEmpty && !System.Numerics.Tensors.TensorPrimitives.IsFiniteAll(visualTokens)) // of nothing it says no
            throw new InputException("visual tokens", "are not finite; the weights or the pictures are damaged");
        return new Sequence(prompt, visualTokens.Length / width, textTokens, sampling, _model.NewText());
    }

    private void Cancel(Sequence sequence)
    {
        sequence.Cancel();
        foreach (var writer in _writers)
            writer.AbortIfCancelled();
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_closing.IsCancellationRequested)
            return;
        _closing.Cancel();
        foreach (var writer in _writers)
            writer.Abort();
        foreach (var writer in _writers)
            writer.Join();
        _phrases?.Wait(); // it uses the model
        foreach (var writer in _writers)
            writer.Dispose();
        _arrivals.Dispose();
    }
}
