using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Train.Text;

namespace Pcrl.Convert;

/// <summary>
/// Writes <c>llm.gguf</c>: Hugging Face LLaMA weights become a stock LLaMA GGUF, a few rows at a time, with the adapter merged in
/// float32 and the rows of q and k reordered from rotate-half to the interleaved rotation that llama.cpp applies.
/// </summary>
public static class LlmGgufWriter
{
    private static readonly (string Gguf, string HuggingFace)[] LayerMatrices =
    [
        ("attn_q", "self_attn.q_proj"), ("attn_k", "self_attn.k_proj"), ("attn_v", "self_attn.v_proj"), ("attn_output", "self_attn.o_proj"),
        ("ffn_gate", "mlp.gate_proj"), ("ffn_up", "mlp.up_proj"), ("ffn_down", "mlp.down_proj"),
    ];

    /// <summary>
    /// Writes the file and checks it as the runtime will. A failure leaves nothing; after a kill the same call goes on where it was
    /// (see <see cref="GgufWriter.SaveResumably"/>).
    /// </summary>
    /// <param name="path">File to write.</param>
    /// <param name="model">What to write.</param>
    /// <param name="adapter">To be merged, or null.</param>
    /// <param name="type">What the matrices are stored as; norms are F32 always.</param>
    /// <param name="progress">Gets bytes written and bytes in all.</param>
    /// <param name="cancellation">Ends it between tensors.</param>
    /// <param name="check">Looks at the sound file before it gets its name.</param>
    /// <exception cref="InputException">
    /// Dimensions, tokenizer, weights and adapter do not fit together, a weight is missing, not finite or beyond the type's range, or the file cannot be written.
    /// </exception>
    public static void Write(
        string path, LlmCheckpoint model, LoraAdapter? adapter, LlmType type = LlmType.F32, Action<long, long>? progress = null,
        CancellationToken cancellation = default, Action<string>? check = null)
    {
        var config = model.Config;
        if (config.Problem() is { } problem)
            throw new InputException(path, $"would describe an impossible model: {problem}");
        if (model.Tokenizer.Count != config.VocabSize)
            throw new InputException(path, $"would have {model.Tokenizer.Count} tokens for {config.VocabSize} rows of the token embedding");
        CheckShapes(model, adapter);
        var writer = new GgufWriter();
        AddArchitecture(writer, model, adapter, type);
        AddTokenizer(writer, model.Tokenizer, model.ChatTemplate);
        AddTensors(writer, config, new MatrixWriter(model.Weights, adapter, cancellation), type);
        writer.SaveResumably(path, Inputs(model, adapter), written =>
        {
            using (var file = GgufFile.Open(written))
                LlmGguf.Validate(file);
            check?.Invoke(written);
        }, progress, cancellation);
    }

    /// <summary>The matrices of a model by Hugging Face's names without <c>.weight</c>, with their rows and columns.</summary>
    private static IEnumerable<(string Name, long Rows, long Columns)> Matrices(LlmConfig config)
    {
        yield return ("model.embed_tokens", config.VocabSize, config.HiddenSize);
        for (int layer = 0; layer < config.NumHiddenLayers; layer++)
        {
            foreach (var ((_, name), (rows, columns)) in LayerMatrices.Zip(LayerShapes(config)))
                yield return ($"model.layers.{layer}.{name}", rows, columns);
        }
        if (!config.TieWordEmbeddings)
            yield return ("lm_head", config.VocabSize, config.HiddenSize);
    }

    private static (long Rows, long Columns)[] LayerShapes(LlmConfig config)
    {
        long d = config.HiddenSize, f = config.IntermediateSize, kv = (long)config.NumKeyValueHeads * config.HeadSize;
        return [(d, d), (kv, d), (kv, d), (d, d), (f, d), (f, d), (d, f)];
    }

    /// <summary>Everything that can be told before the first byte is written.</summary>
    private static void CheckShapes(LlmCheckpoint model, LoraAdapter? adapter)
    {
        var weights = model.Weights;
        var vectors = Enumerable.Range(0, model.Config.NumHiddenLayers)
            .SelectMany(i => (string[])[$"model.layers.{i}.input_layernorm", $"model.layers.{i}.post_attention_layernorm"]).Append("model.norm");
        var matrices = Matrices(model.Config).ToList();
        foreach (var (name, shape) in matrices.Select(m => (m.Name, (long[])[m.Rows, m.Columns]))
            .Concat(vectors.Select(v => (v, (long[])[model.Config.HiddenSize]))))
        {
            var got = weights.Shape($"{name}.weight");
            if (!got.SequenceEqual(shape))
                throw new InputException(weights.Path, $"tensor {name}.weight has shape [{string.Join(", ", got)}], the configuration asks for [{string.Join(", ", shape)}]");
        }
        var byName = matrices.ToDictionary(m => m.Name);
        foreach (var (name, delta) in adapter?.Deltas ?? new Dictionary<string, LoraDelta>())
        {
            if (!byName.TryGetValue(name, out var matrix) || name == "model.embed_tokens")
                throw new InputException(adapter!.Path, $"is for another base: it adapts {name}, which this model has not");
            if (delta.A.LongLength != delta.Rank * matrix.Columns || delta.B.LongLength != delta.Rank * matrix.Rows)
            {
                throw new InputException(adapter!.Path, $"is for another base: {name} would be [{delta.B.Length / delta.Rank}, {delta.A.Length / delta.Rank}], "
                    + $"this model's is [{matrix.Rows}, {matrix.Columns}]");
            }
        }
    }

    private static void AddArchitecture(GgufWriter writer, LlmCheckpoint model, LoraAdapter? adapter, LlmType type)
    {
        var config = model.Config;
        writer.Add("general.architecture", "llama");
        writer.Add("general.name", model.Name);
        if (model.Files.Count > 0)
            writer.Add("general.description", $"Converted from {model.Weights.Path}" + (adapter is null ? "" : $" with the adapter {adapter.Path} merged"));
        writer.Add("general.file_type", TypeMix.FileType(type));
        if (type >= LlmType.Q8_0)
            writer.Add("general.quantization_version", 2u); // of ggml's block formats
        writer.Add("llama.vocab_size", (uint)config.VocabSize);
        writer.Add("llama.context_length", (uint)config.MaxPositionEmbeddings);
        writer.Add("llama.embedding_length", (uint)config.HiddenSize);
        writer.Add("llama.block_count", (uint)config.NumHiddenLayers);
        writer.Add("llama.feed_forward_length", (uint)config.IntermediateSize);
        writer.Add("llama.attention.head_count", (uint)config.NumAttentionHeads);
        writer.Add("llama.attention.head_count_kv", (uint)config.NumKeyValueHeads);
        writer.Add("llama.attention.layer_norm_rms_epsilon", config.RmsNormEps);
        writer.Add("llama.rope.dimension_count", (uint)config.HeadSize);
        writer.Add("llama.rope.freq_base", config.RopeTheta);
    }

    private static void AddTokenizer(GgufWriter writer, TokenizerData tokenizer, string? chatTemplate)
    {
        writer.Add("tokenizer.ggml.model", "gpt2");
        writer.Add("tokenizer.ggml.pre", "llama-bpe");
        writer.Add("tokenizer.ggml.tokens", (string[])[.. tokenizer.Tokens, .. tokenizer.SpecialTokens]);
        writer.Add("tokenizer.ggml.token_type", (int[])[
            .. Enumerable.Repeat(LlmGguf.NormalToken, tokenizer.Tokens.Count),
            .. Enumerable.Repeat(LlmGguf.ControlToken, tokenizer.SpecialTokens.Count)]);
        writer.Add("tokenizer.ggml.merges", tokenizer.Merges);
        writer.Add("tokenizer.ggml.bos_token_id", (uint)tokenizer.BosId);
        writer.Add("tokenizer.ggml.eos_token_id", (uint)tokenizer.EosId);
        if (tokenizer.SpecialTokens.Contains(TokenizerData.EndOfTurnToken))
            writer.Add("tokenizer.ggml.eot_token_id", (uint)tokenizer.SpecialId(TokenizerData.EndOfTurnToken));
        writer.Add("tokenizer.ggml.add_bos_token", true);
        if (chatTemplate is not null)
            writer.Add("tokenizer.chat_template", chatTemplate);
    }

    private static void AddTensors(GgufWriter writer, LlmConfig config, MatrixWriter source, LlmType type)
    {
        int d = config.HiddenSize, layers = config.NumHiddenLayers;
        void AddMatrix(string gguf, string name, GgufType stored, long rows, long columns, int headSize = 0) =>
            writer.AddTensor(gguf + ".weight", stored, [rows, columns], stream => source.Write(stream, name, stored, rows, (int)columns, headSize));
        void AddVector(string gguf, string name) =>
            writer.AddTensor(gguf + ".weight", GgufType.F32, [d], stream => source.Write(stream, name, GgufType.F32, 1, d, headSize: 0));

        AddMatrix("token_embd", "model.embed_tokens", TypeMix.Embedding(type, d, config.TieWordEmbeddings), config.VocabSize, d);
        if (config.RopeScaling is { } scaling)
            writer.AddTensor(LlmGguf.RopeDivisors, GgufType.F32, [config.HeadSize / 2], () => scaling.Divisors(config.HeadSize, config.RopeTheta));
        for (int layer = 0; layer < layers; layer++)
        {
            string from = $"model.layers.{layer}.", to = $"blk.{layer}.";
            AddVector(to + "attn_norm", from + "input_layernorm");
            AddVector(to + "ffn_norm", from + "post_attention_layernorm");
            foreach (var ((gguf, huggingFace), (rows, columns)) in LayerMatrices.Zip(LayerShapes(config)))
            {
                AddMatrix(
                    to + gguf, from + huggingFace, TypeMix.Layer(type, gguf, layer, layers, (int)columns), rows, columns,
                    gguf is "attn_q" or "attn_k" ? config.HeadSize : 0);
            }
        }
        AddVector("output_norm", "model.norm");
        if (!config.TieWordEmbeddings)
            AddMatrix("output", "lm_head", TypeMix.Output(type, d), config.VocabSize, d);
    }

    /// <summary>What the file is made from, for recognising a partial one; null for a model in memory, which cannot be recognised.</summary>
    private static string? Inputs(LlmCheckpoint model, LoraAdapter? adapter)
    {
        if (model.Files.Count == 0)
            return null;
        string[] ofAdapter = adapter is null ? [] : Directory.Exists(adapter.Path) ? Directory.GetFiles(adapter.Path) : [adapter.Path];
        return FileStamp.Of(model.Files.Concat(ofAdapter));
    }
}
