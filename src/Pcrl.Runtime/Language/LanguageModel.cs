using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Text;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language.Native;

namespace Pcrl.Runtime.Language;

/// <summary>How a language model is loaded.</summary>
public sealed record LanguageOptions
{
    /// <summary>Most CPU threads; 0 for as many as there are processors. A model of less than 64 MiB uses one: more would only wait for each other.</summary>
    public int Threads { get; init; }

    /// <summary>Most tokens of prompt and text together; never more than the model was made for.</summary>
    public int ContextLength { get; init; } = 512;

    /// <summary>Layers that a GPU takes over where llama.cpp was built for one; negative for all, 0 for none.</summary>
    public int GpuLayers { get; init; } = -1;
}

/// <summary>
/// The language model of a bundle, run by llama.cpp. The file is checked before native code sees it. One generation or
/// evaluation runs at a time; others wait for it.
/// </summary>
public sealed unsafe class LanguageModel : IDisposable
{
    /// <summary>
    /// Below this, an operation is over before a second thread has joined it. llama.cpp's threads wait for each other spinning, so
    /// on a machine with other work two of them can be hundreds of times slower than one.
    /// </summary>
    private const long SmallModelBytes = 64 << 20;

    private readonly GgufFile _file;
    private readonly GgufTensor _embedding;
    private readonly LlamaModelHandle _model;
    private readonly LlamaContextHandle _context;
    private readonly nint _vocabulary;
    private readonly int _threads;
    private readonly SemaphoreSlim _turn = new(1);

    private LanguageModel(GgufFile file, LlmConfig config, LanguageOptions options)
    {
        _file = file;
        _embedding = file.Tensor("token_embd.weight");
        int threads = options.Threads == 0 ? Environment.ProcessorCount : options.Threads;
        _threads = file.Tensors.Values.Sum(tensor => tensor.ByteCount) < SmallModelBytes ? 1 : threads;
        Config = config;
        ContextLength = Math.Min(options.ContextLength, config.MaxPositionEmbeddings);
        LlamaLibrary.Load();
        _model = LoadModel(file.Path, options.GpuLayers);
        try
        {
            _vocabulary = LlamaNative.Vocabulary(_model);
            if (LlamaNative.ModelWidth(_model) != config.HiddenSize || LlamaNative.VocabularySize(_vocabulary) != config.VocabSize)
                throw new InputException(file.Path, "changed while it was read");
            _context = LlamaContextHandle.Create(_model, ContextLength, outputs: 1, _threads);
        }
        catch
        {
            _model.Dispose();
            throw;
        }
    }

    /// <summary>Dimensions of the model.</summary>
    public LlmConfig Config { get; }

    /// <summary>Width of a visual token and of a token embedding.</summary>
    public int Width => Config.HiddenSize;

    /// <summary>Most tokens of prompt and text together.</summary>
    public int ContextLength { get; }

    /// <summary>Checks and loads an <c>llm.gguf</c>.</summary>
    /// <exception cref="InputException">The file is no sound LLaMA-3 model, an option is out of range, or llama.cpp cannot be used here.</exception>
    public static LanguageModel Load(string path, LanguageOptions options)
    {
        if (options.Threads is < 0 or > 512)
            throw new InputException("threads", $"must be between 0 and 512, is {options.Threads}");
        if (options.ContextLength < 1)
            throw new InputException("context length", $"must be 1 or more, is {options.ContextLength}");
        var file = GgufFile.Open(path);
        try
        {
            return new LanguageModel(file, LlmGguf.Validate(file), options);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    private static LlamaModelHandle LoadModel(string path, int gpuLayers)
    {
        var parameters = LlamaNative.ModelDefaults();
        parameters.GpuLayers = gpuLayers;
        var model = LlamaNative.LoadModel(path, parameters);
        return model.IsInvalid ? throw new InputException(path, $"llama.cpp cannot load it ({LlamaLibrary.TakeErrors()})") : model;
    }

    /// <summary>The tokens of a text. Nothing is added in front or behind.</summary>
    /// <param name="text">Any text.</param>
    /// <param name="parseSpecial">Whether names of special tokens in the text become these tokens; false for text from outside.</param>
    public int[] Tokenize(string text, bool parseSpecial = false)
    {
        byte[] bytes = Encoding.UTF8.GetBytes(text);
        var tokens = new int[bytes.Length + 1]; // a token has at least one byte
        fixed (byte* start = bytes)
        fixed (int* output = tokens)
        {
            int count = LlamaNative.Tokenize(_vocabulary, start, bytes.Length, output, tokens.Length, addSpecial: false, parseSpecial);
            return count >= 0 ? tokens[..count] : throw new InvalidOperationException("a token without bytes");
        }
    }

    /// <summary>The text of tokens; special tokens have none.</summary>
    public string Detokenize(ReadOnlySpan<int> tokens)
    {
        var text = new TokenText(_vocabulary);
        var result = new StringBuilder();
        foreach (int token in tokens)
            result.Append(text.Append(CheckToken(token)));
        return result.ToString();
    }

    /// <summary>The id of a special token by its text, or null if the vocabulary has none of this name.</summary>
    public int? SpecialToken(string text) => Tokenize(text, parseSpecial: true) is [var token] && Tokenize(text) is not [_] ? token : null;

    /// <summary>Whether the model ends a text with this token.</summary>
    public bool EndsText(int token) => LlamaNative.IsEndOfGeneration(_vocabulary, CheckToken(token));

    /// <summary>The embeddings of tokens, [tokens, width], row-major.</summary>
    public float[] Embed(ReadOnlySpan<int> tokens)
    {
        var rows = new float[tokens.Length * Width];
        for (int i = 0; i < tokens.Length; i++)
            ReadEmbedding(CheckToken(tokens[i]), rows.AsSpan(i * Width, Width));
        return rows;
    }

    private void ReadEmbedding(int token, Span<float> row)
    {
        if (_file.TryReadRow(_embedding, token, row))
            return;
        var traits = LlamaNative.TypeTraits((int)_embedding.Type);
        var (elements, blockBytes) = GgufTensor.Block(_embedding.Type)!.Value;
        if (traits->BlockElements != elements || (int)traits->BlockBytes != blockBytes || traits->ToFloat == null)
            throw new InputException(_file.Path, $"token embeddings of type {_embedding.Type} cannot be read by this llama.cpp");
        fixed (byte* bytes = _file.RowBytes(_embedding, token))
        fixed (float* values = row)
            traits->ToFloat(bytes, values, row.Length);
    }

    /// <summary>
    /// The whole prompt as embeddings: head, visual tokens, tail. One batch is either tokens or embeddings, so looking the
    /// text's embeddings up here makes one call of the whole prefill.
    /// </summary>
    /// <param name="prompt">The text around the visual tokens.</param>
    /// <param name="visualTokens">[visual tokens, width], row-major; may be empty.</param>
    /// <returns>[head + visual tokens + tail, width] and the number of text tokens.</returns>
    /// <exception cref="ArgumentException">The visual tokens have another width.</exception>
    public (float[] Embeddings, int TextTokens) Assemble(PromptTemplate prompt, ReadOnlySpan<float> visualTokens)
    {
        if (visualTokens.Length % Width != 0)
            throw new ArgumentException($"{visualTokens.Length} values are no whole visual tokens of width {Width}", nameof(visualTokens));
        int[] head = Tokenize(prompt.Head, parseSpecial: true), tail = Tokenize(prompt.Tail, parseSpecial: true);
        return ([.. Embed(head), .. visualTokens, .. Embed(tail)], head.Length + tail.Length);
    }

    /// <summary>
    /// Writes a text: prefill of the prompt, then token by token. Native work runs on the thread pool. The last piece carries
    /// the <see cref="GenerationSummary"/>.
    /// </summary>
    /// <param name="prompt">The text around the visual tokens.</param>
    /// <param name="visualTokens">[visual tokens, width], row-major.</param>
    /// <param name="sampling">How tokens are drawn.</param>
    /// <param name="cancellation">Ends it within one layer's time.</param>
    /// <exception cref="InputException">The prompt does not fit the context, an option is out of range, or the model gives no finite logits.</exception>
    /// <exception cref="OperationCanceledException">Cancelled.</exception>
    public async IAsyncEnumerable<GeneratedPiece> GenerateAsync(
        PromptTemplate prompt, ReadOnlyMemory<float> visualTokens, SamplingOptions sampling, [EnumeratorCancellation] CancellationToken cancellation = default)
    {
        var sampler = new Sampler(sampling);
        var (embeddings, promptTokens) = Assemble(prompt, visualTokens.Span);
        int position = embeddings.Length / Width, generated = 0;
        if (position is 0 || position >= ContextLength)
            throw new InputException("prompt", $"has {position} tokens, the context has room for 1 to {ContextLength - 1}");
        var text = new TokenText(_vocabulary);
        TimeSpan prefill, decode = default;
        StopReason? stop = null;

        await _turn.WaitAsync(cancellation).ConfigureAwait(false);
        try
        {
            _context.Abort(false);
            using var registration = cancellation.UnsafeRegister(static context => ((LlamaContextHandle)context!).Abort(true), _context);
            var clock = Stopwatch.StartNew();
            int token = await Task.Run(() => Begin(embeddings, sampler, cancellation), cancellation).ConfigureAwait(false);
            prefill = clock.Elapsed;
            while (stop is null)
            {
                if (EndsText(token))
                {
                    stop = StopReason.EndOfText;
                    break;
                }
                generated++;
                string piece = text.Append(token);
                if (piece.Length > 0)
                    yield return new GeneratedPiece(piece);
                if (generated == sampling.MaxTokens)
                    stop = StopReason.TokenLimit;
                else if (position == ContextLength)
                    stop = StopReason.ContextFull;
                else
                {
                    clock.Restart();
                    int previous = token;
                    token = await Task.Run(() => Continue(previous, sampler, cancellation), cancellation).ConfigureAwait(false);
                    position++;
                    decode += clock.Elapsed;
                }
            }
        }
        finally
        {
            _turn.Release();
        }
        var summary = new GenerationSummary(stop.Value, visualTokens.Length / Width, promptTokens, generated, prefill, decode);
        yield return new GeneratedPiece("", summary);
    }

    private int Begin(float[] embeddings, Sampler sampler, CancellationToken cancellation)
    {
        LlamaNative.ClearMemory(LlamaNative.Memory(_context), data: false);
        fixed (float* rows = embeddings)
            Decode(_context, new LlamaBatch { Count = embeddings.Length / Width, Embeddings = rows }, cancellation);
        return sampler.Next(Logits(_context, -1));
    }

    private int Continue(int token, Sampler sampler, CancellationToken cancellation)
    {
        Decode(_context, new LlamaBatch { Count = 1, Tokens = &token }, cancellation);
        return sampler.Next(Logits(_context, -1));
    }

    private ReadOnlySpan<float> Logits(LlamaContextHandle context, int index)
    {
        float* logits = LlamaNative.Logits(context, index);
        return logits != null
            ? new ReadOnlySpan<float>(logits, Config.VocabSize)
            : throw new InvalidOperationException($"llama.cpp has no logits at {index}");
    }

    private static void Decode(LlamaContextHandle context, LlamaBatch batch, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        int result = LlamaNative.Decode(context, batch);
        cancellation.ThrowIfCancellationRequested(); // the usual reason of a failure: it was aborted
        if (result != 0)
            throw new InputException("language model", $"llama.cpp failed with code {result} ({LlamaLibrary.TakeErrors()})");
    }

    /// <summary>The logits at every position of a token sequence, [tokens, vocabulary]: for checks, not for speed.</summary>
    public float[] EvaluateTokens(ReadOnlySpan<int> tokens)
    {
        foreach (int token in tokens)
            CheckToken(token);
        fixed (int* ids = tokens)
            return Evaluate(new LlamaBatch { Count = tokens.Length, Tokens = ids });
    }

    /// <summary>The logits at every position of a sequence of embeddings [positions, width]: for checks, not for speed.</summary>
    public float[] EvaluateEmbeddings(ReadOnlySpan<float> embeddings)
    {
        if (embeddings.Length % Width != 0)
            throw new ArgumentException($"{embeddings.Length} values are no whole rows of width {Width}", nameof(embeddings));
        fixed (float* rows = embeddings)
            return Evaluate(new LlamaBatch { Count = embeddings.Length / Width, Embeddings = rows });
    }

    private float[] Evaluate(LlamaBatch batch)
    {
        if (batch.Count == 0 || batch.Count > Config.MaxPositionEmbeddings)
            throw new ArgumentException($"a sequence of {batch.Count} cannot be evaluated");
        _turn.Wait();
        try
        {
            // A context of its own: room for the logits of every position would be wasted on generation.
            using var context = LlamaContextHandle.Create(_model, batch.Count, batch.Count, _threads);
            var outputs = new sbyte[batch.Count];
            Array.Fill(outputs, (sbyte)1);
            var logits = new float[(long)batch.Count * Config.VocabSize];
            fixed (sbyte* wanted = outputs)
            {
                batch.Outputs = wanted;
                Decode(context, batch, CancellationToken.None);
            }
            for (int i = 0; i < batch.Count; i++)
                Logits(context, i).CopyTo(logits.AsSpan(i * Config.VocabSize));
            return logits;
        }
        finally
        {
            _turn.Release();
        }
    }

    private int CheckToken(int token)
    {
        if ((uint)token >= (uint)Config.VocabSize)
            throw new ArgumentOutOfRangeException(nameof(token), token, $"outside the vocabulary of {Config.VocabSize}");
        return token;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _context.Dispose();
        _model.Dispose();
        _file.Dispose();
        _turn.Dispose();
    }
}
