using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models.Sam;

/// <summary>Prompt tokens and image patches attend to each other in turn.</summary>
internal sealed class TwoWayTransformer : Module
{
    private const int Depth = 2;

    private readonly TorchSharp.Modules.ModuleList<TwoWayBlock> layers;
    private readonly DecoderAttention final_attn_token_to_image;
    private readonly Module<Tensor, Tensor> norm_final_attn;

    public TwoWayTransformer(SamConfig config)
        : base(nameof(TwoWayTransformer))
    {
        layers = new([.. Enumerable.Range(0, Depth).Select(i => new TwoWayBlock(config, first: i == 0))]);
        final_attn_token_to_image = new DecoderAttention(config, downsample: 2);
        norm_final_attn = LayerNorm(config.PromptEmbedDim);
        RegisterComponents();
    }

    /// <summary>
    /// Image [1 or N, D, g, g], positions [1, D, g, g], tokens [N, T, D] → tokens [N, T, D], patches [N, g·g, D]. Of one image for all tokens the first block's
    /// patches are projected once, not once for every prompt.
    /// </summary>
    public (Tensor Queries, Tensor Keys) Forward(Tensor image, Tensor positions, Tensor tokens)
    {
        using var scope = NewDisposeScope();
        var keys = image.flatten(2).transpose(1, 2);
        var keyPositions = positions.flatten(2).transpose(1, 2);
        var queries = tokens;
        foreach (var layer in layers)
            (queries, keys) = layer.Forward(queries, keys, tokens, keyPositions);
        queries = queries + final_attn_token_to_image.Forward(queries + tokens, keys + keyPositions, keys);
        return (norm_final_attn.forward(queries).MoveToOuterDisposeScope(), keys.MoveToOuterDisposeScope());
    }
}

internal sealed class TwoWayBlock : Module
{
    private readonly DecoderAttention self_attn, cross_attn_token_to_image, cross_attn_image_to_token;
    private readonly Module<Tensor, Tensor> norm1, norm2, norm3, norm4;
    private readonly SamFeedForward mlp;
    private readonly bool _first;

    public TwoWayBlock(SamConfig config, bool first)
        : base(nameof(TwoWayBlock))
    {
        int width = config.PromptEmbedDim;
        _first = first;
        self_attn = new DecoderAttention(config, downsample: 1);
        cross_attn_token_to_image = new DecoderAttention(config, downsample: 2);
        cross_attn_image_to_token = new DecoderAttention(config, downsample: 2);
        norm1 = LayerNorm(width);
        norm2 = LayerNorm(width);
        norm3 = LayerNorm(width);
        norm4 = LayerNorm(width);
        mlp = new SamFeedForward(width, config.DecoderMlpDim, x => functional.relu(x));
        RegisterComponents();
    }

    public (Tensor Queries, Tensor Keys) Forward(Tensor queries, Tensor keys, Tensor queryPositions, Tensor keyPositions)
    {
        using var scope = NewDisposeScope();
        // The first block's queries are the positions themselves: nothing to add, and no residual either.
        queries = _first
            ? self_attn.Forward(queries, queries, queries)
            : queries + self_attn.Forward(queries + queryPositions, queries + queryPositions, queries);
        queries = norm1.forward(queries);
        var placedKeys = keys + keyPositions;
        queries = norm2.forward(queries + cross_attn_token_to_image.Forward(queries + queryPositions, placedKeys, keys));
        queries = norm3.forward(queries + mlp.forward(queries));
        keys = norm4.forward(keys + cross_attn_image_to_token.Forward(placedKeys, queries + queryPositions, queries));
        return (queries.MoveToOuterDisposeScope(), keys.MoveToOuterDisposeScope());
    }
}

/// <summary>Multi-head attention whose inner width may be smaller than the model's.</summary>
internal sealed class DecoderAttention : Module
{
    private readonly Module<Tensor, Tensor> q_proj, k_proj, v_proj, out_proj;
    private readonly int _heads;

    public DecoderAttention(SamConfig config, int downsample)
        : base(nameof(DecoderAttention))
    {
        int width = config.PromptEmbedDim, inner = width / downsample;
        _heads = config.DecoderHeads;
        q_proj = Linear(width, inner);
        k_proj = Linear(width, inner);
        v_proj = Linear(width, inner);
        out_proj = Linear(inner, width);
        RegisterComponents();
    }

    public Tensor Forward(Tensor queries, Tensor keys, Tensor values)
    {
        using var scope = NewDisposeScope();
        long batch = Math.Max(queries.shape[0], keys.shape[0]); // either may be one for all
        Tensor Heads(Tensor x) => x.view(x.shape[0], x.shape[1], _heads, -1).transpose(1, 2).expand(batch, -1, -1, -1);
        var (q, k, v) = (Heads(q_proj.forward(queries)), Heads(k_proj.forward(keys)), Heads(v_proj.forward(values))); // [N, heads, T, head]
        // The fused form spares memory, but its gradient in bfloat16 takes three to nine times as long as the products written out.
        var attended = q.dtype == ScalarType.BFloat16
            ? functional.softmax((q / Math.Sqrt(q.shape[3])).matmul(k.transpose(2, 3)), -1).matmul(v)
            : functional.scaled_dot_product_attention(q, k, v);
        return out_proj.forward(attended.transpose(1, 2).flatten(2)).MoveToOuterDisposeScope();
    }
}
