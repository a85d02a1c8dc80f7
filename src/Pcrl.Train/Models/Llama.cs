using Pcrl.Runtime.Language;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models;

/// <summary>
/// A LLaMA-3 causal language model; parameter names are those of Hugging Face's LlamaForCausalLM
/// (<c>model.layers.0.self_attn.q_proj.weight</c>, …), adapters those of PEFT below the same paths.
/// </summary>
public sealed class Llama : Module
{
    private readonly LlamaTrunk model;
    private readonly LoraLinear lm_head;

    /// <param name="config">Dimensions.</param>
    /// <param name="lora">Adapters; null for none.</param>
    public Llama(LlmConfig config, LoraConfig? lora)
        : base(nameof(Llama))
    {
        Config = config;
        model = new LlamaTrunk(config, lora);
        lm_head = new LoraLinear(config.HiddenSize, config.VocabSize, null);
        RegisterComponents();
    }

    /// <summary>Dimensions.</summary>
    public LlmConfig Config { get; }

    /// <summary>Embeddings of token ids: [B, T] (int64) → [B, T, D].</summary>
    public Tensor Embed(Tensor tokens) => model.Embed(tokens);

    /// <summary>Embeddings of all tokens: [V, D].</summary>
    public Tensor EmbeddingTable => model.EmbeddingTable;

    /// <summary>Final hidden states (after the last norm): [B, T, D] → [B, T, D], causal.</summary>
    /// <param name="embeddings">Token or visual embeddings.</param>
    /// <param name="cache">Keys and values of the positions before; the new ones are added. Null: positions start at 0.</param>
    public Tensor Hidden(Tensor embeddings, KeyValueCache? cache = null) => model.Hidden(embeddings, cache);

    /// <summary>Final hidden states of packed sequences, each as if it stood alone: [rows · width, D].</summary>
    /// <param name="rows">The sequences.</param>
    /// <param name="visual">Their visual tokens, as <see cref="PackedRows.Embeddings"/> takes them.</param>
    public Tensor Hidden(PackedRows rows, Tensor? visual)
    {
        using var scope = NewDisposeScope();
        return model.Hidden(rows.Embeddings(this, visual), rows).flatten(0, 1).MoveToOuterDisposeScope();
    }

    /// <summary>Next-token logits of hidden states: […, D] → […, V].</summary>
    public Tensor Logits(Tensor hidden) => lm_head.forward(hidden);
}

/// <summary>Keys and values of the positions a model has seen: one pair of [B, kv heads, T, head] per layer.</summary>
public sealed class KeyValueCache : IDisposable
{
    private readonly Dictionary<int, (Tensor Keys, Tensor Values)> _layers = [];

    /// <summary>Positions held.</summary>
    public long Length => _layers.TryGetValue(0, out var first) ? first.Keys.shape[2] : 0;

    internal (Tensor Keys, Tensor Values) Append(int layer, Tensor keys, Tensor values)
    {
        if (_layers.TryGetValue(layer, out var before))
        {
            (keys, values) = (cat([before.Keys, keys], dim: 2), cat([before.Values, values], dim: 2));
            before.Keys.Dispose();
            before.Values.Dispose();
        }
        // The cache outlives the dispose scope of the call that fills it.
        return _layers[layer] = (keys.DetachFromDisposeScope(), values.DetachFromDisposeScope());
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (var (keys, values) in _layers.Values)
        {
            keys.Dispose();
            values.Dispose();
        }
        _layers.Clear();
    }
}

/// <summary>Embedding, decoder layers and final norm: what Hugging Face calls LlamaModel.</summary>
internal sealed class LlamaTrunk : Module
{
    private readonly TokenEmbedding embed_tokens;
    private readonly ModuleList<LlamaLayer> layers;
    private readonly RmsNorm norm;
    private readonly LlmConfig _config;

    public LlamaTrunk(LlmConfig config, LoraConfig? lora)
        : base(nameof(LlamaTrunk))
    {
        _config = config;
        embed_tokens = new TokenEmbedding(config.VocabSize, config.HiddenSize);
        layers = ModuleList([.. Enumerable.Range(0, config.NumHiddenLayers).Select(i => new LlamaLayer(i, config, lora))]);
        norm = new RmsNorm(config.HiddenSize, config.RmsNormEps);
        RegisterComponents();
    }

    public Tensor EmbeddingTable => embed_tokens.weight;

    public Tensor Embed(Tensor tokens) => embed_tokens.forward(tokens);

    public Tensor Hidden(Tensor x, KeyValueCache? cache)
    {
        using var scope = NewDisposeScope();
        var (cos, sin) = RotaryEmbedding.Tables(cache?.Length ?? 0, x.shape[1], _config.HeadSize, _config.RopeTheta);
        return Hidden(x, new AttentionOrder(cos, sin, null), cache).MoveToOuterDisposeScope();
    }

    public Tensor Hidden(Tensor x, PackedRows rows)
    {
        using var scope = NewDisposeScope();
        if (rows.Layout() is not var (positions, mask))
            return Hidden(x, cache: null).MoveToOuterDisposeScope();
        var (cos, sin) = RotaryEmbedding.Tables(0, x.shape[1], _config.HeadSize, _config.RopeTheta);
        Tensor Of(Tensor table) => table.index_select(0, positions.flatten()).view(rows.Rows, 1, rows.Width, -1);
        return Hidden(x, new AttentionOrder(Of(cos), Of(sin), mask), null).MoveToOuterDisposeScope();
    }

    private Tensor Hidden(Tensor x, AttentionOrder order, KeyValueCache? cache)
    {
        using var scope = NewDisposeScope();
        foreach (var layer in layers)
            x = layer.Forward(x, order, cache);
        return norm.forward(x).MoveToOuterDisposeScope();
    }
}

/// <summary>Rows of a table by id. (TorchSharp's Embedding would do; the initial scale is ours.)</summary>
internal sealed class TokenEmbedding : Module<Tensor, Tensor>
{
    internal readonly Parameter weight;

    public TokenEmbedding(int rows, int width)
        : base(nameof(TokenEmbedding))
    {
        weight = Parameter(randn(rows, width) * 0.5);
        RegisterComponents();
    }

    public override Tensor forward(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        return weight.index_select(0, tokens.flatten()).reshape([.. tokens.shape, weight.shape[1]]).MoveToOuterDisposeScope();
    }
}
