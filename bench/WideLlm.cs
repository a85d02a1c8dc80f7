using System.Buffers.Binary;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;

namespace Pcrl.Bench;

/// <summary>
/// The function of a small LLaMA in the shape of a large one: its weights stand in a corner of the large matrices. The rest is random where it meets
/// only activations that are zero (all but attention's output and the token embedding, where the rest is zero too). The
/// large model writes the small one's texts at the large one's cost, so that speculation can be measured with real report language
/// where verifying a draft costs what it costs at full size.
/// </summary>
internal sealed class WideLlm
{
    private const int BlockElements = 256; // of the K types

    private readonly GgufFile _file;
    private readonly LlmConfig _small, _large;
    private readonly bool _quantised;

    private WideLlm(GgufFile file, LlmConfig small, LlmConfig large, bool quantised) =>
        (_file, _small, _large, _quantised) = (file, small, large, quantised);

    private static LlmConfig FortyMillion => new() { HiddenSize = 512, IntermediateSize = 2048, NumHiddenLayers = 10, NumAttentionHeads = 8, NumKeyValueHeads = 4, VocabSize = 1024 };

    /// <summary>Shapes by name, and whether they are quantised as llama.cpp's Q4_K_M has it (Q6_K for the output layer and half of the value and down matrices); else BF16.</summary>
    public static readonly IReadOnlyDictionary<string, (LlmConfig Config, bool Quantised)> Shapes = new Dictionary<string, (LlmConfig, bool)>
    {
        ["40m"] = (FortyMillion, false),
        ["40m-q4_k_m"] = (FortyMillion, true),
        ["1b"] = (new() { HiddenSize = 2048, IntermediateSize = 8192, NumHiddenLayers = 16, NumAttentionHeads = 32, NumKeyValueHeads = 8 }, true),
        ["8b"] = (new(), true),
    };

    /// <summary>Writes the large model.</summary>
    /// <param name="source">The small model's GGUF.</param>
    /// <param name="path">File to write.</param>
    /// <param name="shape">One of <see cref="Shapes"/>.</param>
    public static void Write(string source, string path, string shape)
    {
        using var file = GgufFile.Open(source);
        var small = LlmGguf.Validate(file);
        var (config, quantised) = Shapes[shape];
        var large = config with { RopeTheta = small.RopeTheta, RmsNormEps = small.RmsNormEps * small.HiddenSize / config.HiddenSize };
        new WideLlm(file, small, large, quantised).Write(path);
    }

    private int Group => _small.NumAttentionHeads / _small.NumKeyValueHeads;

    private int LargeGroup => _large.NumAttentionHeads / _large.NumKeyValueHeads;

    private void Write(string path)
    {
        var (s, l) = (_small, _large);
        if (s.HiddenSize > l.HiddenSize || s.IntermediateSize > l.IntermediateSize || s.NumHiddenLayers > l.NumHiddenLayers || s.TieWordEmbeddings
            || s.NumKeyValueHeads > l.NumKeyValueHeads || Group > LargeGroup || l.HeadSize % s.HeadSize != 0 || s.VocabSize > l.VocabSize)
            throw new ArgumentException("the small model does not fit into the large one");
        var writer = new GgufWriter();
        AddMetadata(writer);
        int[] width = [.. Enumerable.Range(0, s.HiddenSize)], forward = [.. Enumerable.Range(0, s.IntermediateSize)];
        int[] query = Heads(s.NumAttentionHeads, h => h / Group * LargeGroup + h % Group), key = Heads(s.NumKeyValueHeads, h => h);
        int kv = l.NumKeyValueHeads * l.HeadSize;
        // Token ids beyond the small vocabulary are never read; they are written as seldom as the last marker, which is never.
        int[] vocabulary = [.. Enumerable.Range(0, l.VocabSize).Select(id => Math.Min(id, s.VocabSize - 1))];
        AddRows(writer, "token_embd.weight", GgufType.Q4_K, vocabulary, l.HiddenSize);
        AddRows(writer, "output.weight", GgufType.Q6_K, vocabulary, l.HiddenSize);
        // The mean of squares is over more elements, of which the new ones are zero.
        float norm = MathF.Sqrt((float)s.HiddenSize / l.HiddenSize);
        AddNorm(writer, "output_norm.weight", norm);
        for (int layer = 0; layer < l.NumHiddenLayers; layer++)
        {
            string prefix = $"blk.{layer}.";
            AddNorm(writer, prefix + "attn_norm.weight", norm);
            AddNorm(writer, prefix + "ffn_norm.weight", norm);
            bool finer = layer < l.NumHiddenLayers / 8 || layer >= 7 * l.NumHiddenLayers / 8 || (layer - l.NumHiddenLayers / 8) % 3 == 2;
            var delicate = finer ? GgufType.Q6_K : GgufType.Q4_K;
            // Scores are divided by the root of the head size.
            AddMatrix(writer, prefix + "attn_q.weight", GgufType.Q4_K, l.HiddenSize, l.HiddenSize, query, width, MathF.Sqrt((float)l.HeadSize / s.HeadSize));
            AddMatrix(writer, prefix + "attn_k.weight", GgufType.Q4_K, kv, l.HiddenSize, key, width);
            AddMatrix(writer, prefix + "attn_v.weight", delicate, kv, l.HiddenSize, key, width);
            AddMatrix(writer, prefix + "attn_output.weight", GgufType.Q4_K, l.HiddenSize, l.HiddenSize, width, query, filled: false);
            AddMatrix(writer, prefix + "ffn_gate.weight", GgufType.Q4_K, l.IntermediateSize, l.HiddenSize, forward, width);
            AddMatrix(writer, prefix + "ffn_up.weight", GgufType.Q4_K, l.IntermediateSize, l.HiddenSize, forward, width);
            AddMatrix(writer, prefix + "ffn_down.weight", delicate, l.HiddenSize, l.IntermediateSize, width, forward);
        }
        writer.Save(path);
    }

    /// <summary>Where the rows of the small model's heads go: pair j of a head turns as fast as pair j · (large / small head size) of a larger one.</summary>
    private int[] Heads(int count, Func<int, int> place)
    {
        int ratio = _large.HeadSize / _small.HeadSize;
        return [.. Enumerable.Range(0, count * _small.HeadSize).Select(row =>
        {
            int head = row / _small.HeadSize, inside = row % _small.HeadSize;
            return place(head) * _large.HeadSize + inside / 2 * ratio * 2 + inside % 2;
        })];
    }

    private void AddMetadata(GgufWriter writer)
    {
        var l = _large;
        writer.Add("general.architecture", "llama");
        writer.Add("general.name", "widened for measuring");
        foreach (var (key, value) in (IEnumerable<(string, int)>)[
            ("vocab_size", l.VocabSize), ("context_length", l.MaxPositionEmbeddings), ("embedding_length", l.HiddenSize), ("block_count", l.NumHiddenLayers),
            ("feed_forward_length", l.IntermediateSize), ("attention.head_count", l.NumAttentionHeads), ("attention.head_count_kv", l.NumKeyValueHeads),
            ("rope.dimension_count", l.HeadSize)])
            writer.Add("llama." + key, (uint)value);
        writer.Add("llama.attention.layer_norm_rms_epsilon", l.RmsNormEps);
        writer.Add("llama.rope.freq_base", l.RopeTheta);
        writer.Add("tokenizer.ggml.model", "gpt2");
        writer.Add("tokenizer.ggml.pre", "llama-bpe");
        int added = l.VocabSize - _small.VocabSize;
        writer.Add("tokenizer.ggml.tokens", (string[])[.. _file.GetStrings("tokenizer.ggml.tokens"), .. Enumerable.Range(0, added).Select(i => $"~unused~{i}~")]);
        writer.Add("tokenizer.ggml.token_type", (int[])[.. _file.GetIntegers("tokenizer.ggml.token_type").Select(t => (int)t), .. Enumerable.Repeat(LlmGguf.NormalToken, added)]);
        writer.Add("tokenizer.ggml.merges", _file.GetStrings("tokenizer.ggml.merges"));
        foreach (string key in (string[])["bos", "eos"])
            writer.Add($"tokenizer.ggml.{key}_token_id", (uint)_file.GetInteger($"tokenizer.ggml.{key}_token_id"));
    }

    private void AddNorm(GgufWriter writer, string name, float scale) => writer.AddTensor(name, GgufType.F32, [_large.HiddenSize], () =>
    {
        var values = new float[_large.HiddenSize];
        if (_file.Tensors.ContainsKey(name))
            System.Numerics.Tensors.TensorPrimitives.Multiply(_file.Floats(name), scale, values);
        return values;
    });

    private static byte[] Encoded(GgufType type, float[] row)
    {
        var bytes = new byte[GgufTensor.Bytes(type, row.Length)];
        Quantiser.Encode(type, row, row.Length, bytes);
        return bytes;
    }

    /// <summary>A matrix whose row i is row <paramref name="rows"/>[i] of the small model's, lengthened by zeros.</summary>
    private void AddRows(GgufWriter writer, string name, GgufType type, int[] rows, int columns)
    {
        type = _quantised ? type : GgufType.BF16;
        writer.AddTensor(name, type, [rows.Length, columns], stream =>
        {
            float[] small = _file.Floats(name).ToArray();
            int length = small.Length / _small.VocabSize;
            var values = new float[columns];
            byte[][] encoded = [.. Enumerable.Range(0, _small.VocabSize).Select(row =>
            {
                small.AsSpan(row * length, length).CopyTo(values);
                return Encoded(type, values);
            })];
            foreach (int row in rows)
                stream.Write(encoded[row]);
        });
    }

    /// <summary>A matrix with the small model's elements at the given rows and columns. Blocks of columns without any are random, or zero if not filled; the rest is zero.</summary>
    private void AddMatrix(GgufWriter writer, string name, GgufType type, int rows, int columns, int[] toRows, int[] toColumns, float scale = 1, bool filled = true)
    {
        type = _quantised ? type : GgufType.BF16;
        int rowBytes = (int)GgufTensor.Bytes(type, columns), used = toColumns.Max() / BlockElements + 1;
        int exact = filled ? (int)GgufTensor.Bytes(type, Math.Min(used * BlockElements, columns)) : rowBytes;
        writer.AddTensor(name, type, [rows, columns], stream =>
        {
            float[] small = _file.Tensors.ContainsKey(name) ? _file.Floats(name).ToArray() : [];
            var places = toRows.Select((to, from) => (to, from)).ToDictionary(place => place.to, place => place.from);
            byte[] filler = Filler(type), line = new byte[rowBytes];
            var values = new float[columns];
            for (int row = 0, at = 0; row < rows; row++)
            {
                for (int start = exact; start < rowBytes;)
                {
                    int length = Math.Min(rowBytes - start, filler.Length - at);
                    filler.AsSpan(at, length).CopyTo(line.AsSpan(start));
                    (start, at) = (start + length, (at + length) % filler.Length);
                }
                line.AsSpan(0, exact).Clear();
                if (small.Length > 0 && places.TryGetValue(row, out int from))
                {
                    for (int column = 0; column < toColumns.Length; column++)
                        values[toColumns[column]] = scale * small[from * toColumns.Length + column];
                    Encoded(type, values).AsSpan(0, exact).CopyTo(line);
                }
                stream.Write(line);
            }
        });
    }

    /// <summary>Random blocks with small scales, the same in every run; not a power of two of them, so that rows differ.</summary>
    private static byte[] Filler(GgufType type)
    {
        const int Blocks = 9973;
        int block = (int)GgufTensor.Bytes(type, BlockElements); // of BF16, a stretch of as many elements
        var bytes = new byte[Blocks * block];
        new Random(1).NextBytes(bytes);
        for (int start = 0; start < bytes.Length; start += block)
        {
            // Where the block's half-precision scales stand; every BF16 value is made finite.
            foreach (int scale in (int[])(type switch { GgufType.Q4_K => [0, 2], GgufType.Q6_K => [block - 2], _ => [] }))
                BinaryPrimitives.WriteHalfLittleEndian(bytes.AsSpan(start + scale), (Half)0.001f);
            for (int value = start + 1; type == GgufType.BF16 && value < start + block; value += 2)
                bytes[value] &= 0xBF;
        }
        return bytes;
    }
}
