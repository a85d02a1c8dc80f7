using System.Text;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;

namespace Pcrl.Runtime.Tests.Language;

/// <summary>A LLaMA of a few hundred kilobytes with seeded weights and a byte-level vocabulary, written by our own writer.</summary>
internal sealed class TinyLlm
{
    public const int Width = 32, Layers = 2, Heads = 4, KeyValueHeads = 2, FeedForward = 64;
    public const string Bos = "<|begin_of_text|>", Eos = "<|end_of_text|>", Image = "[Img]";

    public Dictionary<string, Action<GgufWriter, string>> Metadata { get; } = [];

    public Dictionary<string, (GgufType Type, long[] Shape)> Tensors { get; } = [];

    public List<string> Tokens { get; }

    public List<string> Merges { get; } = [];

    public int BosId => Tokens.IndexOf(Bos);

    public int EosId => Tokens.IndexOf(Eos);

    /// <summary>A token whose embedding is not a number.</summary>
    public int? Poisoned { get; init; }

    public TinyLlm(GgufType type = GgufType.F32)
    {
        var alphabet = LlmGguf.ByteAlphabet;
        Tokens = [.. alphabet.Select(c => c.ToString())];
        foreach (string word in (string[])["脑", "室", "脑室", "未见", "出血"])
            AddWord(string.Concat(Encoding.UTF8.GetBytes(word).Select(b => alphabet[b])));
        int normal = Tokens.Count;
        Tokens.AddRange([Bos, Eos, Image, "<|reserved|>"]);
        int head = Width / Heads, vocabulary = Tokens.Count;
        foreach (var (key, value) in (IEnumerable<(string, string)>)[
            ("general.architecture", "llama"), ("general.name", "tiny"), ("tokenizer.ggml.model", "gpt2"), ("tokenizer.ggml.pre", "llama-bpe")])
            Metadata[key] = (w, k) => w.Add(k, value);
        foreach (var (key, value) in (IEnumerable<(string, int)>)[
            ("general.file_type", 0), ("llama.vocab_size", vocabulary), ("llama.context_length", 512), ("llama.embedding_length", Width),
            ("llama.block_count", Layers), ("llama.feed_forward_length", FeedForward), ("llama.attention.head_count", Heads),
            ("llama.attention.head_count_kv", KeyValueHeads), ("llama.rope.dimension_count", head),
            ("tokenizer.ggml.bos_token_id", BosId), ("tokenizer.ggml.eos_token_id", EosId)])
            Metadata[key] = (w, k) => w.Add(k, (uint)value);
        Metadata["llama.attention.layer_norm_rms_epsilon"] = (w, k) => w.Add(k, 1e-5f);
        Metadata["llama.rope.freq_base"] = (w, k) => w.Add(k, 500000f);
        Metadata["tokenizer.ggml.tokens"] = (w, k) => w.Add(k, Tokens);
        Metadata["tokenizer.ggml.token_type"] = (w, k) => w.Add(k, (int[])[.. Tokens.Select((_, id) => id < normal ? 1 : 3)]);
        Metadata["tokenizer.ggml.merges"] = (w, k) => w.Add(k, Merges);
        Metadata["tokenizer.ggml.add_bos_token"] = (w, k) => w.Add(k, true);

        long kv = KeyValueHeads * head;
        Tensors["token_embd.weight"] = (type, [vocabulary, Width]);
        for (int layer = 0; layer < Layers; layer++)
        {
            foreach (string norm in (string[])["attn_norm", "ffn_norm"])
                Tensors[$"blk.{layer}.{norm}.weight"] = (GgufType.F32, [Width]);
            foreach (var (name, rows, columns) in (IEnumerable<(string, long, long)>)[
                ("attn_q", Width, Width), ("attn_k", kv, Width), ("attn_v", kv, Width), ("attn_output", Width, Width),
                ("ffn_gate", FeedForward, Width), ("ffn_up", FeedForward, Width), ("ffn_down", Width, FeedForward)])
                Tensors[$"blk.{layer}.{name}.weight"] = (type, [rows, columns]);
        }
        Tensors["output_norm.weight"] = (GgufType.F32, [Width]);
        Tensors["output.weight"] = (type, [vocabulary, Width]);
    }

    public string Save(string path)
    {
        var writer = new GgufWriter();
        foreach (var (key, add) in Metadata)
            add(writer, key);
        foreach (var (name, (type, shape)) in Tensors)
        {
            if (type == GgufType.Q8_0)
                writer.AddTensor(name, type, shape, stream => stream.Write(Quantise(Values(name, shape))));
            else
                writer.AddTensor(name, type, shape, () => name == "token_embd.weight" ? Poison(Values(name, shape)) : Values(name, shape));
        }
        writer.Save(path);
        return path;
    }

    /// <summary>Seeded by the name; norms around 1, the output layer large enough for clear preferences.</summary>
    public static float[] Values(string name, long[] shape)
    {
        var random = new Random(name.Aggregate(7, (h, c) => unchecked(h * 31 + c)));
        float scale = name == "output.weight" ? 0.6f : 0.25f;
        return [.. Enumerable.Range(0, (int)shape.Aggregate(1L, (a, b) => a * b))
            .Select(_ => shape.Length == 1 ? 1f : scale * (float)(random.NextDouble() * 2 - 1))];
    }

    private float[] Poison(float[] embeddings)
    {
        if (Poisoned is { } token)
            embeddings[token * Width] = float.NaN;
        return embeddings;
    }

    /// <summary>Q8_0: blocks of 32 values, a half-precision scale and then 32 signed bytes.</summary>
    private static byte[] Quantise(float[] values) => [.. values.Chunk(32).SelectMany(block =>
    {
        var scale = (Half)(block.Max(Math.Abs) / 127);
        return BitConverter.GetBytes(scale).Concat(block.Select(v => (byte)(sbyte)Math.Round(v / (float)scale)));
    })];

    private void AddWord(string word)
    {
        // Grown from the left: each prefix is a token, merged from the prefix before it and one character.
        for (int length = 2; length <= word.Length; length++)
        {
            if (Tokens.Contains(word[..length]))
                continue;
            Tokens.Add(word[..length]);
            Merges.Add($"{word[..(length - 1)]} {word[length - 1]}");
        }
    }
}
