using System.Numerics.Tensors;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Train.Text;

namespace Pcrl.Convert;

/// <summary>A LoRA adapter to be merged: W + (α / r) · B · A (reference §3).</summary>
/// <param name="Rank">r.</param>
/// <param name="Alpha">α.</param>
/// <param name="Tensor">
/// Row-major values by PEFT name (<c>base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight</c>, [r, in];
/// <c>…lora_B.weight</c>, [out, r]); null where the adapter does not touch a matrix.
/// </param>
public sealed record LoraAdapter(int Rank, float Alpha, Func<string, float[]?> Tensor);

/// <summary>
/// Writes <c>llm.gguf</c>: Hugging Face LLaMA weights become a stock LLaMA GGUF, tensor by tensor, with the adapter merged in
/// float32 and the rows of q and k reordered from rotate-half to the interleaved rotation that llama.cpp applies.
/// </summary>
public static class LlmGgufWriter
{
    private static readonly (string Gguf, string HuggingFace)[] LayerMatrices =
    [
        ("attn_q", "self_attn.q_proj"), ("attn_k", "self_attn.k_proj"), ("attn_v", "self_attn.v_proj"), ("attn_output", "self_attn.o_proj"),
        ("ffn_gate", "mlp.gate_proj"), ("ffn_up", "mlp.up_proj"), ("ffn_down", "mlp.down_proj"),
    ];

    /// <summary>Writes the file and checks it as the runtime will.</summary>
    /// <param name="path">File to write, whole or not at all.</param>
    /// <param name="name">Name of the model, for people (<c>general.name</c>).</param>
    /// <param name="config">Dimensions.</param>
    /// <param name="weights">Row-major values by Hugging Face name, each asked for once.</param>
    /// <param name="adapter">To be merged, or null.</param>
    /// <param name="tokenizer">As many tokens as the embedding has rows.</param>
    /// <param name="type">Element type of the matrices, F32, F16 or BF16; norms are F32 always.</param>
    /// <param name="chatTemplate">Jinja template for chat programs, or null.</param>
    /// <exception cref="InputException">Dimensions, tokenizer and weights do not fit together, or the file cannot be written.</exception>
    public static void Write(
        string path, string name, LlmConfig config, Func<string, float[]> weights, LoraAdapter? adapter, TokenizerData tokenizer,
        GgufType type = GgufType.F32, string? chatTemplate = null)
    {
        if (config.Problem() is { } problem)
            throw new InputException(path, $"would describe an impossible model: {problem}");
        if (tokenizer.Count != config.VocabSize)
            throw new InputException(path, $"would have {tokenizer.Count} tokens for {config.VocabSize} rows of the token embedding");
        var writer = new GgufWriter();
        AddArchitecture(writer, name, config, type);
        AddTokenizer(writer, tokenizer, chatTemplate);
        AddTensors(writer, config, new Source(path, config, weights, adapter), type);
        writer.Save(path);
        using var written = GgufFile.Open(path);
        LlmGguf.Validate(written);
    }

    private static void AddArchitecture(GgufWriter writer, string name, LlmConfig config, GgufType type)
    {
        writer.Add("general.architecture", "llama");
        writer.Add("general.name", name);
        writer.Add("general.file_type", type switch { GgufType.F16 => 1u, GgufType.BF16 => 32u, _ => 0u }); // llama_ftype
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
        writer.Add("tokenizer.ggml.add_bos_token", true);
        if (chatTemplate is not null)
            writer.Add("tokenizer.chat_template", chatTemplate);
    }

    private static void AddTensors(GgufWriter writer, LlmConfig config, Source source, GgufType type)
    {
        long d = config.HiddenSize, f = config.IntermediateSize, kv = (long)config.NumKeyValueHeads * config.HeadSize, v = config.VocabSize;
        writer.AddTensor("token_embd.weight", type, [v, d], () => source.Matrix("model.embed_tokens", v, d));
        for (int layer = 0; layer < config.NumHiddenLayers; layer++)
        {
            string from = $"model.layers.{layer}.", to = $"blk.{layer}.";
            writer.AddTensor(to + "attn_norm.weight", GgufType.F32, [d], () => source.Vector(from + "input_layernorm", d));
            writer.AddTensor(to + "ffn_norm.weight", GgufType.F32, [d], () => source.Vector(from + "post_attention_layernorm", d));
            (long Rows, long Columns)[] shapes = [(d, d), (kv, d), (kv, d), (d, d), (f, d), (f, d), (d, f)];
            foreach (var ((gguf, huggingFace), (rows, columns)) in LayerMatrices.Zip(shapes))
            {
                writer.AddTensor(to + gguf + ".weight", type, [rows, columns], () =>
                {
                    float[] matrix = source.Matrix(from + huggingFace, rows, columns);
                    return gguf is "attn_q" or "attn_k" ? Interleave(matrix, (int)columns, config.HeadSize) : matrix;
                });
            }
        }
        writer.AddTensor("output_norm.weight", GgufType.F32, [d], () => source.Vector("model.norm", d));
        if (!config.TieWordEmbeddings)
            writer.AddTensor("output.weight", type, [v, d], () => source.Matrix("lm_head", v, d));
    }

    /// <summary>
    /// Hugging Face rotates row i of a head with row i + half; llama.cpp rotates neighbours. Row p·half + j becomes row 2j + p.
    /// </summary>
    private static float[] Interleave(float[] matrix, int columns, int headSize)
    {
        var reordered = new float[matrix.Length];
        int half = headSize / 2;
        for (int row = 0; row < matrix.Length / columns; row++)
        {
            int head = row / headSize, part = row % headSize / half, j = row % half;
            matrix.AsSpan(row * columns, columns).CopyTo(reordered.AsSpan((head * headSize + 2 * j + part) * columns));
        }
        return reordered;
    }

    /// <summary>The weights with their adapter merged and their sizes checked.</summary>
    private sealed class Source(string path, LlmConfig config, Func<string, float[]> weights, LoraAdapter? adapter)
    {
        public float[] Vector(string name, long length) => Checked($"{name}.weight", weights($"{name}.weight"), length);

        public float[] Matrix(string name, long rows, long columns)
        {
            float[] matrix = Checked($"{name}.weight", weights($"{name}.weight"), rows * columns);
            if (adapter?.Tensor($"base_model.model.{name}.lora_A.weight") is not { } a)
                return matrix;
            string nameOfB = $"base_model.model.{name}.lora_B.weight";
            float[] b = adapter.Tensor(nameOfB) ?? throw new InputException(path, $"the adapter lacks {nameOfB}");
            Checked($"{name}.lora_A", a, adapter.Rank * columns);
            Checked(nameOfB, b, rows * adapter.Rank);
            return Merge(matrix, a, b, (int)columns);
        }

        private float[] Merge(float[] matrix, float[] a, float[] b, int columns)
        {
            var merged = (float[])matrix.Clone(); // the caller's weights stay as they are
            var delta = new float[columns];
            for (int row = 0; row < matrix.Length / columns; row++)
            {
                Array.Clear(delta);
                for (int r = 0; r < adapter!.Rank; r++)
                    TensorPrimitives.MultiplyAdd(a.AsSpan(r * columns, columns), b[row * adapter.Rank + r], delta, delta);
                var target = merged.AsSpan(row * columns, columns);
                TensorPrimitives.MultiplyAdd(delta, adapter!.Alpha / adapter.Rank, target, target);
            }
            return merged;
        }

        private float[] Checked(string name, float[] values, long expected) => values.LongLength == expected
            ? values
            : throw new InputException(path, $"tensor {name} has {values.LongLength} values, {expected} are needed (width {config.HiddenSize})");
    }
}
