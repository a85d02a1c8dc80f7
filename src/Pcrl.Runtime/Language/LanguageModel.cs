using System.Text;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language.Native;

namespace Pcrl.Runtime.Language;

/// <summary>What llama.cpp computes on.</summary>
public enum LanguageDevice
{
    /// <summary>CUDA, else Vulkan, where the build has them and they work; else the CPU. A model of less than 64 MiB is faster on the CPU and stays there.</summary>
    Auto,

    /// <summary>The CPU.</summary>
    Cpu,

    /// <summary>NVIDIA cards.</summary>
    Cuda,

    /// <summary>Cards with a Vulkan driver.</summary>
    Vulkan,
}

/// <summary>How a language model is loaded.</summary>
public sealed record LanguageOptions
{
    /// <summary>Most CPU threads; 0 for as many as there are processors. A model of less than 64 MiB uses one: more would only wait for each other.</summary>
    public int Threads { get; init; }

    /// <summary>Most tokens of prompt and text together; never more than the model was made for.</summary>
    public int ContextLength { get; init; } = 512;

    /// <summary>What it runs on. A GPU that cannot be used is replaced by the CPU; <see cref="LanguageModel.Choice"/> says so.</summary>
    public LanguageDevice Device { get; init; } = LanguageDevice.Cpu;

    /// <summary>
    /// Whether llama.cpp may lay quantised weights out anew for the processor: faster, and as much memory again as the file has. Without, they are
    /// read where the file is mapped.
    /// </summary>
    public bool LaysOutAnew { get; init; } = true;
}

/// <summary>
/// The language model of a bundle, run by llama.cpp: weights and vocabulary. The file is checked before native code sees it.
/// A <see cref="BatchDecoder"/> writes texts with it.
/// </summary>
public sealed unsafe class LanguageModel : IDisposable
{
    /// <summary>
    /// Below this, an operation is over before a second thread has joined it. llama.cpp's threads wait for each other spinning, so
    /// on a machine with other work two of them can be hundreds of times slower than one.
    /// </summary>
    private const long SmallModelBytes = 64 << 20;

    private const int ThreadsPerContext = 4;

    private const int AllLayers = -1;

    private readonly GgufFile _file;
    private readonly GgufTensor _embedding;
    private readonly nint _vocabulary;
    private readonly GgufType[] _ownKernelTypes;

    private LanguageModel(GgufFile file, LlmConfig config, LanguageOptions options)
    {
        _file = file;
        _embedding = file.Tensor("token_embd.weight");
        Threads = options.Threads == 0 ? Environment.ProcessorCount : options.Threads;
        bool isSmall = file.Tensors.Values.Sum(tensor => tensor.ByteCount) < SmallModelBytes;
        ContextThreads = isSmall ? 1 : Threads;
        Config = config;
        ContextLength = Math.Min(options.ContextLength, config.MaxPositionEmbeddings);
        var device = options.Device == LanguageDevice.Auto && isSmall ? LlamaDevice.Cpu("a small model is faster there") : LlamaDevice.Open(options.Device);
        (Handle, Device) = LlamaThread.Run(() => Load(file.Path, device, options.LaysOutAnew));
        _vocabulary = LlamaNative.Vocabulary(Handle);
        if (LlamaNative.ModelWidth(Handle) != config.HiddenSize || LlamaNative.VocabularySize(_vocabulary) != config.VocabSize)
        {
            Handle.Dispose();
            throw new InputException(file.Path, "changed while it was read");
        }
        _ownKernelTypes = Device.Kind != LanguageDevice.Cpu ? [] : [.. file.Tensors.Values.Where(LlamaKernels.Fit).Select(tensor => tensor.Type).Distinct().Order()];
        MostContexts = isSmall && Device.Kind == LanguageDevice.Cpu ? Math.Max(1, Threads / ThreadsPerContext) : 1;
        EndToken = (int)file.GetInteger("tokenizer.ggml.eos_token_id");
    }

    /// <summary>The loaded model, for contexts.</summary>
    internal LlamaModelHandle Handle { get; }

    /// <summary>What it runs on.</summary>
    internal LlamaDevice Device { get; }

    /// <summary>One line: what it runs on and why, with the layers that a GPU has taken over, and a warning if it is not what was asked for.</summary>
    public string Choice => $"llama.cpp on {Device.Choice}{(_ownKernelTypes is [] ? "" : HasOwnKernels ? $", own kernels for {string.Join(" and ", _ownKernelTypes)}" : $", without own kernels: {LlamaKernels.Problem}")}";

    /// <summary>Whether its matrices are multiplied by <see cref="LlamaKernels"/>, to which more rows at once cost little.</summary>
    internal bool HasOwnKernels => _ownKernelTypes is not [] && LlamaKernels.Problem is null;

    /// <summary>CPU threads, those of all contexts and of drawing.</summary>
    internal int Threads { get; }

    /// <summary>CPU threads that a context uses.</summary>
    internal int ContextThreads { get; }

    /// <summary>Contexts that are worth having side by side: several on the CPU where one has a single thread, and one thread in four, for studies have to be read and encoded too.</summary>
    internal int MostContexts { get; }

    /// <summary>The token that ends a text.</summary>
    public int EndToken { get; }

    /// <summary>Dimensions of the model.</summary>
    public LlmConfig Config { get; }

    /// <summary>Width of a visual token and of a token embedding.</summary>
    public int Width => Config.HiddenSize;

    /// <summary>Most tokens of prompt and text together.</summary>
    public int ContextLength { get; }

    /// <summary>Bytes of the keys and values of some positions.</summary>
    public long CacheBytes(int positions) => 2L * sizeof(ushort) * Config.NumHiddenLayers * Config.NumKeyValueHeads * Config.HeadSize * positions;

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

    private static (LlamaModelHandle Handle, LlamaDevice Device) Load(string path, LlamaDevice device, bool laysOutAnew)
    {
        LlamaLibrary.Load();
        var parameters = LlamaNative.ModelDefaults();
        // llama.cpp takes every card of every loaded backend unless it is given a list, which ends with a zero.
        nint[] cards = [.. device.Cards, 0];
        LlamaModelHandle model;
        fixed (nint* list = cards)
        {
            parameters.Devices = list;
            parameters.GpuLayers = device.Cards.Count > 0 ? AllLayers : 0;
            parameters.ExtraBuffers = (byte)(laysOutAnew ? 1 : 0);
            model = LlamaNative.LoadModel(path, parameters);
        }
        if (!model.IsInvalid)
            return (model, device.Cards.Count > 0 ? device with { Choice = $"{device.Choice}, layers offloaded: {LlamaLibrary.Offloaded}" } : device);
        return device.Cards.Count > 0
            ? Load(path, LlamaDevice.Cpu($"warning: {device.Choice} cannot load the model: {LlamaLibrary.TakeErrors()}"), laysOutAnew)
            : throw new InputException(path, $"llama.cpp cannot load it ({LlamaLibrary.TakeErrors()})");
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

    /// <summary>Turns the tokens of one text into text as they come.</summary>
    internal TokenText NewText() => new(_vocabulary);

    /// <summary>The text of tokens; special tokens have none.</summary>
    public string Detokenize(ReadOnlySpan<int> tokens)
    {
        var text = NewText();
        var result = new StringBuilder();
        foreach (int token in tokens)
            text.Append(CheckToken(token), result);
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
            Embed(tokens[i], rows.AsSpan(i * Width, Width));
        return rows;
    }

    /// <summary>The embedding of a token, [width].</summary>
    public void Embed(int token, Span<float> row)
    {
        if (_file.TryReadRow(_embedding, CheckToken(token), row))
            return;
        var traits = LlamaNative.TypeTraits((int)_embedding.Type);
        var (elements, blockBytes) = GgufTensor.Block(_embedding.Type)!.Value;
        if (traits->BlockElements != elements || (int)traits->BlockBytes != blockBytes || traits->ToFloat == null)
            throw new InputException(_file.Path, $"token embeddings of type {_embedding.Type} cannot be read by this llama.cpp");
        fixed (byte* bytes = _file.RowBytes(_embedding, token))
        fixed (float* values = row)
            traits->ToFloat(bytes, values, row.Length);
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
        using var context = LlamaContextHandle.Create(this, new LlamaContextSize(batch.Count, 1, batch.Count, batch.Count, Exact: true));
        var outputs = new sbyte[batch.Count];
        Array.Fill(outputs, (sbyte)1);
        var logits = new float[(long)batch.Count * Config.VocabSize];
        fixed (sbyte* wanted = outputs)
        {
            batch.Outputs = wanted;
            LlamaThread.Run(() =>
            {
                context.Decode(batch);
                for (int i = 0; i < batch.Count; i++)
                    context.Logits(i, Config.VocabSize).CopyTo(logits.AsSpan(i * Config.VocabSize));
            });
        }
        return logits;
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
        Handle.Dispose();
        _file.Dispose();
    }
}
