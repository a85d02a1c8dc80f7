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
    /// Images [B, D, g, g], positions [1, D, g, g], tokens [N, T, D], as many of each image, one image's after the other's → tokens [N, T, D], patches [N, g·g, D].
    /// What depends on the image alone is computed once per image, not once per prompt.
    /// </summary>
    /// <param name="image">The images.</param>
    /// <param name="positions">Of their patches.</param>
    /// <param name="tokens">The prompts'.</param>
    /// <param name="patchesLearn">False leaves patches as they are without prompts, [B, g·g, D]: far less work, for training and where <see cref="PatchesLearn"/> is false anyway.</param>
    public (Tensor Queries, Tensor Keys) Forward(Tensor image, Tensor positions, Tensor tokens, bool patchesLearn)
    {
        using var scope = NewDisposeScope();
        var keys = image.flatten(2).transpose(1, 2);
        var keyPositions = positions.flatten(2).transpose(1, 2);
        var queries = tokens;
        foreach (var layer in layers)
            (queries, keys) = layer.Forward(queries, keys, tokens, keyPositions, patchesLearn);
        queries = queries + final_attn_token_to_image.Forward(queries + tokens, keys + keyPositions, keys);
        return (norm_final_attn.forward(queries).MoveToOuterDisposeScope(), keys.MoveToOuterDisposeScope());
    }

    /// <summary>Whether prompts change patches at all; the small models' do not.</summary>
    public bool PatchesLearn => layers.Any(layer => layer.PatchesLearn);

    /// <summary>The patches of <see cref="Forward"/> where they do not learn: images [B, D, g, g] → [B, g·g, D].</summary>
    public Tensor Unprompted(Tensor image)
    {
        using var scope = NewDisposeScope();
        return layers.Aggregate(image.flatten(2).transpose(1, 2), (keys, layer) => layer.Unprompted(keys)).MoveToOuterDisposeScope();
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

    public (Tensor Queries, Tensor Keys) Forward(Tensor queries, Tensor keys, Tensor queryPositions, Tensor keyPositions, bool patchesLearn)
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
        if (patchesLearn)
        {
            var learned = cross_attn_image_to_token.Forward(placedKeys, queries + queryPositions, queries); // [N, g·g, D]
            keys = (keys.unsqueeze(1) + learned.view(keys.shape[0], -1, keys.shape[1], keys.shape[2])).flatten(0, 1);
        }
        keys = Unprompted(keys);
        return (queries.MoveToOuterDisposeScope(), keys.MoveToOuterDisposeScope());
    }

    /// <summary>Whether what patches learn of tokens is more than nothing.</summary>
    public bool PatchesLearn => cross_attn_image_to_token.GivesAnything;

    /// <summary>What is done to patches beside what they learn of tokens.</summary>
    public Tensor Unprompted(Tensor keys) => norm4.forward(keys);
}

/// <summary>Multi-head attention whose inner width may be smaller than the model's.</summary>
internal sealed class DecoderAttention : Module
{
    private readonly Module<Tensor, Tensor> q_proj, k_proj, v_proj;
    private readonly TorchSharp.Modules.Linear out_proj;
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

    /// <summary>False if the last layer makes zeros of everything.</summary>
    public bool GivesAnything
    {
        get
        {
            using var scope = NewDisposeScope();
            return (out_proj.weight!.count_nonzero() + out_proj.bias!.count_nonzero()).item<long>() > 0;
        }
    }

    /// <summary>Queries [N, T, D], keys and values [M, S, D] → [max(N, M), T, D]. Where M &lt; N, as many queries belong to each of the keys, and the other way round.</summary>
    public Tensor Forward(Tensor queries, Tensor keys, Tensor values)
    {
        using var scope = NewDisposeScope();
        long count = queries.shape[0], length = queries.shape[1];
        Tensor Heads(Tensor x) => x.view(x.shape[0], x.shape[1], _heads, -1).transpose(1, 2);
        // All that ask the same keys, one after the other.
        var q = Heads(q_proj.forward(queries.reshape(Math.Min(count, keys.shape[0]), -1, queries.shape[2])));
        var (k, v) = (Heads(k_proj.forward(keys)), Heads(v_proj.forward(values))); // [N, heads, T, head]
        if (count < keys.shape[0])
            q = q.unsqueeze(1).expand(-1, keys.shape[0] / count, -1, -1, -1).flatten(0, 1);
        // The fused form spares memory, but its gradient in bfloat16 takes three to nine times as long as the products written out.
        var attended = q.dtype == ScalarType.BFloat16
            ? functional.softmax((q / Math.Sqrt(q.shape[3])).matmul(k.transpose(2, 3)), -1).matmul(v)
            : functional.scaled_dot_product_attention(q, k, v);
        return out_proj.forward(attended.transpose(1, 2).reshape(Math.Max(count, keys.shape[0]), length, -1)).MoveToOuterDisposeScope();
    }
}
