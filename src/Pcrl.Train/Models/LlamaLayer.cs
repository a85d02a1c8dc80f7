using Pcrl.Runtime.Language;
using Pcrl.Train.Quantisation;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models;

/// <summary>What attention knows of positions.</summary>
/// <param name="Cos">Rotary table, [T, head] or [B, 1, T, head].</param>
/// <param name="Sin">Likewise.</param>
/// <param name="Mask">True where a query (third axis) sees a key: [B, 1, T, T]; null for the plain causal order.</param>
internal readonly record struct AttentionOrder(Tensor Cos, Tensor Sin, Tensor? Mask)
{
    public AttentionOrder(IReadOnlyList<Tensor> tensors)
        : this(tensors[0], tensors[1], tensors.Count > 2 ? tensors[2] : null)
    {
    }

    public IReadOnlyList<Tensor> Tensors => Mask is null ? [Cos, Sin] : [Cos, Sin, Mask];
}

/// <summary>One decoder layer: attention and feed-forward block, each behind a norm and inside a residual.</summary>
internal sealed class LlamaLayer : Module
{
    private readonly LlamaAttention self_attn;
    private readonly LlamaFeedForward mlp;
    private readonly RmsNorm input_layernorm, post_attention_layernorm;

    private readonly Tensor[]? _adapters; // null: no recomputation

    public LlamaLayer(int index, LlmConfig config, LoraConfig? lora, BaseWeights kind)
        : base(nameof(LlamaLayer))
    {
        self_attn = new LlamaAttention(index, config, lora, kind);
        mlp = new LlamaFeedForward(config, lora, kind);
        input_layernorm = new RmsNorm(config.HiddenSize, config.RmsNormEps);
        post_attention_layernorm = new RmsNorm(config.HiddenSize, config.RmsNormEps);
        RegisterComponents();
        if (kind != BaseWeights.Float32)
            _adapters = [.. modules().OfType<LoraLinear>().SelectMany(linear => linear.Adapter)];
    }

    /// <summary>
    /// [B, T, D] → [B, T, D]. Over weights that are small in memory the layer's intermediate values would be what fills it: they are computed again for backward.
    /// </summary>
    public Tensor Forward(Tensor x, AttentionOrder order, KeyValueCache? cache) => _adapters is not null && cache is null && is_grad_enabled()
        ? Checkpointed.Apply((input, tables) => Compute(input, new AttentionOrder(tables), null), x, order.Tensors, _adapters)
        : Compute(x, order, cache);

    private Tensor Compute(Tensor x, AttentionOrder order, KeyValueCache? cache)
    {
        using var scope = NewDisposeScope();
        x = x + self_attn.Forward(input_layernorm.forward(x), order, cache);
        return (x + mlp.forward(post_attention_layernorm.forward(x))).MoveToOuterDisposeScope();
    }

    /// <summary>The adapter of a projection, if the configuration names it.</summary>
    internal static LoraLinear Projection(string name, int inputs, int outputs, LoraConfig? lora, BaseWeights kind) =>
        new(inputs, outputs, lora?.TargetModules.Contains(name) == true ? lora : null, kind);
}

/// <summary>Grouped-query causal self-attention with rotary positions.</summary>
internal sealed class LlamaAttention : Module
{
    private readonly LoraLinear q_proj, k_proj, v_proj, o_proj;
    private readonly LlmConfig _config;
    private readonly int _layer;

    public LlamaAttention(int layer, LlmConfig config, LoraConfig? lora, BaseWeights kind)
        : base(nameof(LlamaAttention))
    {
        (_layer, _config) = (layer, config);
        int keyWidth = config.NumKeyValueHeads * config.HeadSize;
        q_proj = LlamaLayer.Projection("q_proj", config.HiddenSize, config.HiddenSize, lora, kind);
        k_proj = LlamaLayer.Projection("k_proj", config.HiddenSize, keyWidth, lora, kind);
        v_proj = LlamaLayer.Projection("v_proj", config.HiddenSize, keyWidth, lora, kind);
        o_proj = LlamaLayer.Projection("o_proj", config.HiddenSize, config.HiddenSize, lora, kind);
        RegisterComponents();
    }

    public Tensor Forward(Tensor x, AttentionOrder order, KeyValueCache? cache)
    {
        using var scope = NewDisposeScope();
        long batch = x.shape[0], length = x.shape[1];
        Tensor Heads(LoraLinear projection, int heads) =>
            projection.forward(x).view(batch, length, heads, _config.HeadSize).transpose(1, 2); // [B, heads, T, head]
        var queries = RotaryEmbedding.Rotate(Heads(q_proj, _config.NumAttentionHeads), order.Cos, order.Sin);
        var keys = RotaryEmbedding.Rotate(Heads(k_proj, _config.NumKeyValueHeads), order.Cos, order.Sin);
        var values = Heads(v_proj, _config.NumKeyValueHeads);
        bool continued = cache?.Length > 0 && length == 1;
        if (cache is not null)
        {
            if (cache.Length > 0 && length > 1 && _layer == 0)
                throw new ArgumentException("a cache is continued one position at a time", nameof(cache));
            (keys, values) = cache.Append(_layer, keys, values);
        }
        int group = _config.NumAttentionHeads / _config.NumKeyValueHeads;
        var attended = functional.scaled_dot_product_attention(
            queries, Repeat(keys, group), Repeat(values, group), order.Mask?.expand(-1, _config.NumAttentionHeads, -1, -1),
            is_casual: order.Mask is null && !continued); // [B, heads, T, head]
        attended = attended.transpose(1, 2).reshape(batch, length, _config.HiddenSize);
        return o_proj.forward(attended).MoveToOuterDisposeScope();
    }

    /// <summary>Each key/value head serves <paramref name="group"/> neighbouring query heads.</summary>
    private static Tensor Repeat(Tensor heads, int group) => group == 1 ? heads : heads.repeat_interleave(group, dim: 1);
}

/// <summary>Gated feed-forward block: down(silu(gate(x)) · up(x)).</summary>
internal sealed class LlamaFeedForward : Module<Tensor, Tensor>
{
    private readonly LoraLinear gate_proj, up_proj, down_proj;

    public LlamaFeedForward(LlmConfig config, LoraConfig? lora, BaseWeights kind)
        : base(nameof(LlamaFeedForward))
    {
        gate_proj = LlamaLayer.Projection("gate_proj", config.HiddenSize, config.IntermediateSize, lora, kind);
        up_proj = LlamaLayer.Projection("up_proj", config.HiddenSize, config.IntermediateSize, lora, kind);
        down_proj = LlamaLayer.Projection("down_proj", config.IntermediateSize, config.HiddenSize, lora, kind);
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return down_proj.forward(functional.silu(gate_proj.forward(x)) * up_proj.forward(x)).MoveToOuterDisposeScope();
    }
}

/// <summary>x / √(mean(x²) + ε) · weight, in float32 whatever the type of x.</summary>
internal sealed class RmsNorm : Module<Tensor, Tensor>
{
    private readonly Parameter weight;
    private readonly double _epsilon;

    public RmsNorm(int width, double epsilon)
        : base(nameof(RmsNorm))
    {
        weight = Parameter(ones(width));
        _epsilon = epsilon;
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var wide = x.to(float32);
        return (wide * rsqrt(wide.square().mean([-1], keepdim: true) + _epsilon) * weight).to(x.dtype).MoveToOuterDisposeScope();
    }
}
