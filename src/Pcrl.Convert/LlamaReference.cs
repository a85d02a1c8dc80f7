using Pcrl.Runtime.Language;
using Pcrl.Train.Checkpoints;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Convert;

/// <summary>
/// The trained language model computed straight from its checkpoint, in float32 and with the adapter beside the base as in training: what a written
/// file is held against. Weights pass through memory one matrix at a time, so a model larger than memory can be computed.
/// </summary>
internal sealed class LlamaReference(LlmConfig config, ITensorSource weights, LoraAdapter? adapter)
{
    private const int HeadRows = 8192; // of the output layer at a time: it is too large for memory at once

    // Every matrix passes through this: new arrays of their size would fill memory until somebody collects them.
    private readonly float[] _matrix = new float[Math.Max(Math.Max(config.IntermediateSize, config.HiddenSize), Math.Min(HeadRows, config.VocabSize)) * config.HiddenSize];

    /// <summary>Next-token logits at every position of several texts, [positions of all texts, vocabulary], row-major.</summary>
    /// <param name="texts">Embeddings, each [positions, width] row-major.</param>
    public float[] Logits(IReadOnlyList<float[]> texts)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        var hidden = tensor(texts.SelectMany(t => t).ToArray()).view(-1, config.HiddenSize);
        long[] lengths = [.. texts.Select(t => (long)t.Length / config.HiddenSize)];
        for (int layer = 0; layer < config.NumHiddenLayers; layer++)
        {
            using var step = NewDisposeScope();
            string name = $"model.layers.{layer}";
            hidden = hidden + Attention($"{name}.self_attn", Norm(hidden, $"{name}.input_layernorm"), lengths);
            var x = Norm(hidden, $"{name}.post_attention_layernorm");
            var gated = functional.silu(Project($"{name}.mlp.gate_proj", x)) * Project($"{name}.mlp.up_proj", x);
            hidden = (hidden + Project($"{name}.mlp.down_proj", gated)).MoveToOuterDisposeScope();
        }
        return Output(Norm(hidden, "model.norm"));
    }

    /// <summary>Embeddings of tokens, [tokens, width], row-major.</summary>
    public float[] Embed(IReadOnlyList<int> tokens)
    {
        var rows = new float[tokens.Count * config.HiddenSize];
        for (int i = 0; i < tokens.Count; i++)
            weights.ReadFloats("model.embed_tokens.weight", (long)tokens[i] * config.HiddenSize, rows.AsSpan(i * config.HiddenSize, config.HiddenSize));
        return rows;
    }

    private float[] Output(Tensor hidden)
    {
        string name = config.TieWordEmbeddings ? "model.embed_tokens" : "lm_head";
        long positions = hidden.shape[0];
        var logits = new float[positions * config.VocabSize];
        for (int first = 0; first < config.VocabSize; first += HeadRows)
        {
            using var step = NewDisposeScope();
            int count = Math.Min(HeadRows, config.VocabSize - first);
            using var rows = Matrix(name, first, count, config.HiddenSize);
            float[] got = hidden.matmul(rows.t()).contiguous().data<float>().ToArray();
            for (long p = 0; p < positions; p++)
                got.AsSpan((int)p * count, count).CopyTo(logits.AsSpan((int)(p * config.VocabSize) + first));
        }
        return logits;
    }

    private Tensor Attention(string name, Tensor x, long[] lengths)
    {
        long heads = config.NumAttentionHeads, keyHeads = config.NumKeyValueHeads, head = config.HeadSize;
        var queries = Project($"{name}.q_proj", x).view(-1, heads, head);
        var keys = Project($"{name}.k_proj", x).view(-1, keyHeads, head);
        var values = Project($"{name}.v_proj", x).view(-1, keyHeads, head);
        var attended = new List<Tensor>();
        long start = 0;
        foreach (long length in lengths)
        {
            var (cos, sin) = Rotation(length);
            Tensor Own(Tensor all) => all.narrow(0, start, length).transpose(0, 1).unsqueeze(0); // [1, heads, T, head]
            Tensor Shared(Tensor few) => few.repeat_interleave(heads / keyHeads, dim: 1);
            var result = functional.scaled_dot_product_attention(
                Rotate(Own(queries), cos, sin), Shared(Rotate(Own(keys), cos, sin)), Shared(Own(values)), is_casual: true);
            attended.Add(result.squeeze(0).transpose(0, 1).reshape(length, config.HiddenSize));
            start += length;
        }
        return Project($"{name}.o_proj", cat(attended, dim: 0));
    }

    /// <summary>cos and sin of positions 0 … length − 1, [T, head]; dimension i of a head turns with dimension i + head/2.</summary>
    private (Tensor Cos, Tensor Sin) Rotation(long length)
    {
        int half = config.HeadSize / 2;
        float[] divisors = config.RopeScaling?.Divisors(config.HeadSize, config.RopeTheta) ?? [.. Enumerable.Repeat(1f, half)];
        float[] frequencies = [.. divisors.Select((divisor, i) => (float)(Math.Pow(config.RopeTheta, -2.0 * i / config.HeadSize) / divisor))];
        var angles = outer(arange(0, length, ScalarType.Float32), tensor(frequencies));
        angles = cat([angles, angles], dim: 1);
        return (angles.cos(), angles.sin());
    }

    private static Tensor Rotate(Tensor x, Tensor cos, Tensor sin)
    {
        long half = x.shape[^1] / 2;
        return x * cos + cat([-x.narrow(-1, half, half), x.narrow(-1, 0, half)], dim: -1) * sin;
    }

    private Tensor Norm(Tensor x, string name) =>
        x * rsqrt(x.square().mean([-1], keepdim: true) + config.RmsNormEps) * tensor(weights.ReadFloats($"{name}.weight"));

    /// <summary>Rows of a matrix, valid until the next call.</summary>
    private Tensor Matrix(string name, long first, long rows, long columns)
    {
        weights.ReadFloats($"{name}.weight", first * columns, _matrix.AsSpan(0, checked((int)(rows * columns))));
        using var all = from_array(_matrix); // no copy
        return all.narrow(0, 0, rows * columns).view(rows, columns);
    }

    /// <summary>Wx + scale · B(Ax).</summary>
    private Tensor Project(string name, Tensor x)
    {
        using var scope = NewDisposeScope();
        var shape = weights.Shape($"{name}.weight");
        using var matrix = Matrix(name, 0, shape[0], shape[1]);
        var y = x.matmul(matrix.t());
        if (adapter?.Deltas.GetValueOrDefault(name) is { } delta)
        {
            using var a = tensor(delta.A).view(delta.Rank, -1);
            using var b = tensor(delta.B).view(-1, delta.Rank);
            y = y + x.matmul(a.t()).matmul(b.t()) * delta.Scale;
        }
        return y.MoveToOuterDisposeScope();
    }
}
