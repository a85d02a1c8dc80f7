using Pcrl.Runtime.Language;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Quantisation;
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
    /// <param name="kind">
    /// How the base weights lie in memory. Float32 starts random; the others hold nothing until <see cref="LoadBase"/>. NF4 is the decoder layers' only: embeddings and
    /// output layer are then bfloat16.
    /// </param>
    public Llama(LlmConfig config, LoraConfig? lora, BaseWeights kind = BaseWeights.Float32)
        : base(nameof(Llama))
    {
        Config = config;
        model = new LlamaTrunk(config, lora, kind);
        lm_head = new LoraLinear(config.HiddenSize, config.VocabSize, null, kind == BaseWeights.Float32 ? kind : BaseWeights.Bfloat16);
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

    /// <summary>Final hidden states of packed sequences, each as if it stood alone: [rows, width, D] → [rows · width, D].</summary>
    /// <param name="rows">The sequences.</param>
    /// <param name="embeddings">See <see cref="PackedRows.Embeddings"/>.</param>
    public Tensor Hidden(PackedRows rows, Tensor embeddings)
    {
        using var scope = NewDisposeScope();
        return model.Hidden(rows, embeddings).flatten(0, 1).MoveToOuterDisposeScope();
    }

    /// <summary>Next-token logits of hidden states: […, D] → […, V], float32.</summary>
    public Tensor Logits(Tensor hidden)
    {
        using var scope = NewDisposeScope();
        return lm_head.forward(hidden).to(float32).MoveToOuterDisposeScope();
    }

    /// <summary>Fills the base weights from a checkpoint under Hugging Face's names, quantising on the way; adapters keep what they have.</summary>
    /// <param name="file">Holds every base weight in its shape.</param>
    /// <param name="prefix">What stands before the names in the file.</param>
    /// <exception cref="Pcrl.Runtime.InputException">A weight is missing or has another shape.</exception>
    public void LoadBase(ITensorSource file, string prefix = "")
    {
        foreach (var (name, linear) in named_modules().Where(m => m.module is LoraLinear).Select(m => (m.name + ".weight", (LoraLinear)m.module)))
            linear.SetBase(Weights.Read(file, prefix + name, linear.Shape));
        Weights.Load(file, named_parameters()
            .Where(p => p.name.EndsWith("norm.weight", StringComparison.Ordinal) || p.name.EndsWith("embed_tokens.weight", StringComparison.Ordinal))
            .Select(p => (prefix + p.name, (Tensor)p.parameter)));
    }

    /// <summary>Gives the base weights random values, quickly: for trials of size and time.</summary>
    public void RandomiseBase(int seed)
    {
        using var nothing = no_grad();
        var random = new Random(seed);
        foreach (var linear in modules().OfType<LoraLinear>())
            linear.RandomiseBase(random);
        EmbeddingTable.normal_(0, 0.5);
    }
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

    public LlamaTrunk(LlmConfig config, LoraConfig? lora, BaseWeights kind)
        : base(nameof(LlamaTrunk))
    {
        _config = config;
        embed_tokens = new TokenEmbedding(config.VocabSize, config.HiddenSize, kind);
        layers = ModuleList([.. Enumerable.Range(0, config.NumHiddenLayers).Select(i => new LlamaLayer(i, config, lora, kind))]);
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

    public Tensor Hidden(PackedRows rows, Tensor x)
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

/// <summary>Rows of a table by id. (TorchSharp's Embedding would do; the initial scale and the type are ours.)</summary>
internal sealed class TokenEmbedding : Module<Tensor, Tensor>
{
    internal readonly Parameter weight;
    private readonly ScalarType _type;

    public TokenEmbedding(int rows, int width, BaseWeights kind)
        : base(nameof(TokenEmbedding))
    {
        _type = kind.ComputeType();
        weight = kind == BaseWeights.Float32
            ? Parameter(randn(rows, width) * 0.5)
            : Parameter(empty(rows, width, ScalarType.BFloat16), requires_grad: false);
        RegisterComponents();
    }

    public override Tensor forward(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        return weight.index_select(0, tokens.flatten()).reshape([.. tokens.shape, weight.shape[1]]).to(_type).MoveToOuterDisposeScope();
    }
}
