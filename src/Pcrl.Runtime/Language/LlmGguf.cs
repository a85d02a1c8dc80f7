using System.Buffers;
using Pcrl.Runtime.Bundles;

namespace Pcrl.Runtime.Language;

/// <summary>
/// What an <c>llm.gguf</c> must look like: stock LLaMA architecture with LLaMA-3's tokenizer. llama.cpp ends the process on
/// many faults of a file, so everything it relies on is checked here before it sees the file.
/// </summary>
public static class LlmGguf
{
    /// <summary><c>tokenizer.ggml.token_type</c> of ordinary tokens.</summary>
    public const int NormalToken = 1;

    /// <summary><c>tokenizer.ggml.token_type</c> of special tokens.</summary>
    public const int ControlToken = 3;

    /// <summary>The tensor by which llama.cpp divides the rotary frequencies (<see cref="RopeScaling"/>), [head / 2].</summary>
    public const string RopeDivisors = "rope_freqs.weight";

    /// <summary>The <c>llama.*</c> keys that are understood; a file with others (experts, scaled rotations, …) is another architecture.</summary>
    private static readonly HashSet<string> KnownKeys =
    [
        "llama.block_count", "llama.context_length", "llama.embedding_length", "llama.feed_forward_length", "llama.vocab_size",
        "llama.attention.head_count", "llama.attention.head_count_kv", "llama.attention.layer_norm_rms_epsilon",
        "llama.attention.key_length", "llama.attention.value_length", "llama.rope.dimension_count", "llama.rope.freq_base",
    ];

    private static readonly HashSet<string> KnownTokenizerKeys =
    [
        "tokenizer.ggml.model", "tokenizer.ggml.pre", "tokenizer.ggml.tokens", "tokenizer.ggml.token_type", "tokenizer.ggml.merges",
        "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.padding_token_id",
        "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token", "tokenizer.chat_template",
    ];

    /// <summary>GPT-2's spelling of bytes as printable characters, in which ordinary tokens are written: index is the byte.</summary>
    public static IReadOnlyList<char> ByteAlphabet { get; } = MakeByteAlphabet();

    private static readonly SearchValues<char> SpelledBytes = SearchValues.Create([.. ByteAlphabet]);

    private static readonly string[] LayerMatrices = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"];

    /// <summary>Checks a file and gives its dimensions.</summary>
    /// <exception cref="InputException">Not a LLaMA model with LLaMA-3's tokenizer, incomplete, or contradicting itself.</exception>
    public static LlmConfig Validate(GgufFile file)
    {
        if (file.GetString("general.architecture") != "llama")
            throw new InputException(file.Path, "is not of the LLaMA architecture");
        foreach (string key in file.Keys)
        {
            bool isKnown = key.StartsWith("general.", StringComparison.Ordinal) || KnownKeys.Contains(key) || KnownTokenizerKeys.Contains(key);
            if (!isKnown)
                throw new InputException(file.Path, $"has metadata that a plain LLaMA-3 model does not have ({key.Length} characters, "
                    + $"'{new string([.. key.Take(60).Select(c => char.IsAsciiLetterOrDigit(c) || c is '.' or '_' ? c : '?')])}')");
        }
        if (file.Has("general.file_type"))
            file.GetInteger("general.file_type");
        var config = ReadConfig(file);
        CheckTensors(file, config);
        CheckTokenizer(file, config.VocabSize);
        return config;
    }

    private static LlmConfig ReadConfig(GgufFile file)
    {
        int Size(string key) => file.GetInteger(key) is >= 0 and <= int.MaxValue and var size
            ? (int)size : throw new InputException(file.Path, $"metadata {key} is out of range");
        var config = new LlmConfig
        {
            HiddenSize = Size("llama.embedding_length"),
            IntermediateSize = Size("llama.feed_forward_length"),
            NumHiddenLayers = Size("llama.block_count"),
            NumAttentionHeads = Size("llama.attention.head_count"),
            NumKeyValueHeads = Size(file.Has("llama.attention.head_count_kv") ? "llama.attention.head_count_kv" : "llama.attention.head_count"),
            VocabSize = (int)Math.Min(file.Tensor("token_embd.weight").Shape[0], int.MaxValue),
            MaxPositionEmbeddings = Size("llama.context_length"),
            RopeTheta = file.Has("llama.rope.freq_base") ? (float)file.GetFloat("llama.rope.freq_base") : 10000,
            RmsNormEps = (float)file.GetFloat("llama.attention.layer_norm_rms_epsilon"),
            TieWordEmbeddings = !file.Tensors.ContainsKey("output.weight"),
        };
        if (config.Problem() is { } problem)
            throw new InputException(file.Path, $"describes an impossible model: {problem}");
        foreach (string key in (string[])["llama.rope.dimension_count", "llama.attention.key_length", "llama.attention.value_length"])
        {
            if (file.Has(key) && Size(key) != config.HeadSize)
                throw new InputException(file.Path, $"metadata {key} is not the head size {config.HeadSize}");
        }
        if (file.Has("llama.vocab_size") && Size("llama.vocab_size") != config.VocabSize)
            throw new InputException(file.Path, $"llama.vocab_size is not the {config.VocabSize} rows of the token embedding");
        return config;
    }

    private static void CheckTensors(GgufFile file, LlmConfig config)
    {
        long d = config.HiddenSize, f = config.IntermediateSize, kv = (long)config.NumKeyValueHeads * config.HeadSize;
        var expected = new Dictionary<string, long[]>
        {
            ["token_embd.weight"] = [config.VocabSize, d],
            ["output_norm.weight"] = [d],
        };
        if (!config.TieWordEmbeddings)
            expected["output.weight"] = [config.VocabSize, d];
        if (file.Tensors.ContainsKey(RopeDivisors))
        {
            expected[RopeDivisors] = [config.HeadSize / 2];
            CheckRopeDivisors(file);
        }
        for (int layer = 0; layer < config.NumHiddenLayers; layer++)
        {
            string prefix = $"blk.{layer}.";
            expected[prefix + "attn_norm.weight"] = expected[prefix + "ffn_norm.weight"] = [d];
            long[][] shapes = [[d, d], [kv, d], [kv, d], [d, d], [f, d], [f, d], [d, f]];
            foreach (var (name, shape) in LayerMatrices.Zip(shapes))
                expected[prefix + name + ".weight"] = shape;
        }
        foreach (var (name, shape) in expected)
        {
            var tensor = file.Tensor(name);
            if (!tensor.HasShape(shape))
                throw new InputException(file.Path,
                    $"tensor {name} has the shape [{string.Join(", ", tensor.Shape)}], [{string.Join(", ", shape)}] was expected");
            if (shape.Length == 1 && tensor.Type != GgufType.F32)
                throw new InputException(file.Path, $"tensor {name} is {tensor.Type}, norms must be F32");
        }
        if (file.Tensors.Count != expected.Count)
            throw new InputException(file.Path, $"has {file.Tensors.Count} tensors where this model has {expected.Count}");
    }

    private static void CheckRopeDivisors(GgufFile file)
    {
        if (file.Tensor(RopeDivisors).Type != GgufType.F32)
            throw new InputException(file.Path, $"tensor {RopeDivisors} must be F32");
        foreach (float divisor in file.Floats(RopeDivisors))
        {
            if (!(divisor > 0 && float.IsFinite(divisor)))
                throw new InputException(file.Path, $"tensor {RopeDivisors} holds {divisor}");
        }
    }

    private static void CheckTokenizer(GgufFile file, int vocabularySize)
    {
        if (file.GetString("tokenizer.ggml.model") != "gpt2" || file.GetString("tokenizer.ggml.pre") is not ("llama-bpe" or "llama3" or "llama-v3"))
            throw new InputException(file.Path, "has another tokenizer than LLaMA-3's byte-level BPE");
        string[] tokens = file.GetStrings("tokenizer.ggml.tokens");
        long[] types = file.GetIntegers("tokenizer.ggml.token_type");
        if (tokens.Length != vocabularySize || types.Length != vocabularySize)
            throw new InputException(file.Path,
                $"has {tokens.Length} tokens and {types.Length} token types for {vocabularySize} rows of the token embedding");
        var known = new HashSet<string>(tokens.Length);
        for (int id = 0; id < tokens.Length; id++)
        {
            if (tokens[id].Length == 0 || tokens[id].Contains('\0') || !known.Add(tokens[id]))
                throw new InputException(file.Path, $"token {id} is empty or stands twice");
            if (types[id] is not (NormalToken or ControlToken))
                throw new InputException(file.Path, $"token {id} has type {types[id]}, only normal and control tokens are LLaMA-3's");
            if (types[id] == NormalToken && tokens[id].AsSpan().ContainsAnyExcept(SpelledBytes))
                throw new InputException(file.Path, $"token {id} is not spelt in the byte alphabet");
        }
        foreach (string merge in file.GetStrings("tokenizer.ggml.merges"))
        {
            int space = merge.IndexOf(' ');
            if (space <= 0 || space == merge.Length - 1 || merge.IndexOf(' ', space + 1) >= 0)
                throw new InputException(file.Path, "has a merge that is not two parts with a space between");
        }
        foreach (string key in (string[])["bos", "eos", "eot", "padding"])
        {
            string name = $"tokenizer.ggml.{key}_token_id";
            bool isRequired = key is "bos" or "eos";
            if ((isRequired || file.Has(name)) && (file.GetInteger(name) < 0 || file.GetInteger(name) >= vocabularySize))
                throw new InputException(file.Path, $"{name} is outside the vocabulary");
        }
        foreach (string key in (string[])["tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"])
        {
            if (file.Has(key))
                file.GetBoolean(key);
        }
        if (file.Has("tokenizer.chat_template"))
            file.GetString("tokenizer.chat_template");
    }

    private static char[] MakeByteAlphabet()
    {
        // Printable Latin-1 characters stand for themselves; the other bytes take the code points from 256 on, in order.
        var alphabet = new char[256];
        int next = 256;
        for (int value = 0; value < 256; value++)
        {
            bool printable = value is (>= '!' and <= '~') or (>= 0xA1 and <= 0xAC) or (>= 0xAE and <= 0xFF);
            alphabet[value] = printable ? (char)value : (char)next++;
        }
        return alphabet;
    }
}
