using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models.Sam;

/// <summary>What points to where: prompts of one picture. Coordinates are pixels of the input picture (longest side = image size).</summary>
/// <param name="Points">[N, P, 2] as (x, y).</param>
/// <param name="Labels">[N, P] integers: 1 inside, 0 outside, −1 no point.</param>
/// <param name="Boxes">[N, 4] as (x0, y0, x1, y1), or null.</param>
/// <param name="Masks">[N, 1, L, L] logits of an earlier low-resolution mask, or null.</param>
public sealed record SamPrompts(Tensor Points, Tensor Labels, Tensor? Boxes = null, Tensor? Masks = null);

/// <summary>Encodes points, boxes and masks; parameter names are the checkpoints'.</summary>
public sealed class SamPromptEncoder : Module
{
    private const int OutsidePoint = 0, InsidePoint = 1, BoxStart = 2, BoxEnd = 3;

    private readonly PositionEncoding pe_layer;
    private readonly ModuleList<Embedding> point_embeddings;
    private readonly Embedding not_a_point_embed, no_mask_embed;
    private readonly Module<Tensor, Tensor> mask_downscaling;
    private readonly SamConfig _config;

    /// <summary>Builds the encoder with random weights.</summary>
    public SamPromptEncoder(SamConfig config)
        : base(nameof(SamPromptEncoder))
    {
        _config = config;
        int width = config.PromptEmbedDim, channels = config.MaskInChans;
        pe_layer = new PositionEncoding(width / 2);
        point_embeddings = new ModuleList<Embedding>([.. Enumerable.Range(0, 4).Select(_ => Embedding(1, width))]);
        not_a_point_embed = Embedding(1, width);
        no_mask_embed = Embedding(1, width);
        mask_downscaling = Sequential(
            ("0", Conv2d(1, channels / 4, 2, 2)), ("1", new LayerNorm2d(channels / 4)), ("2", GELU()),
            ("3", Conv2d(channels / 4, channels, 2, 2)), ("4", new LayerNorm2d(channels)), ("5", GELU()),
            ("6", Conv2d(channels, width, 1)));
        RegisterComponents();
    }

    /// <summary>Position encoding of the image embedding: [1, D, g, g].</summary>
    public Tensor DensePositions()
    {
        using var scope = NewDisposeScope();
        return pe_layer.forward(Centres(_config.GridSize)).permute(2, 0, 1).unsqueeze(0).MoveToOuterDisposeScope();
    }

    /// <summary>An encoding of the same kind, but of its own random waves, half as fine: [1, g, g, width].</summary>
    internal static Tensor Positions(int grid, int width)
    {
        using var scope = NewDisposeScope();
        using var waves = new PositionEncoding(width / 2);
        return waves.forward(Centres(grid) / 2 + 0.25).unsqueeze(0).MoveToOuterDisposeScope();
    }

    /// <summary>Centres of the patches in 0..1: [g, g, 2] as (x, y).</summary>
    private static Tensor Centres(int grid)
    {
        using var scope = NewDisposeScope();
        var centres = (arange(grid, float32) + 0.5) / grid;
        return stack([centres.unsqueeze(0).expand(grid, -1), centres.unsqueeze(1).expand(-1, grid)], dim: -1).MoveToOuterDisposeScope();
    }

    /// <summary>Sparse [N, tokens, D] (points, then box corners) and dense [N or 1, D, g, g] prompt embeddings.</summary>
    public (Tensor Sparse, Tensor Dense) Forward(SamPrompts prompts)
    {
        using var scope = NewDisposeScope();
        var sparse = Points(prompts.Points, prompts.Labels, pad: prompts.Boxes is null);
        if (prompts.Boxes is { } boxes)
        {
            var corners = Encode(boxes.view(-1, 2, 2));
            var kind = stack([Weight(point_embeddings[BoxStart]), Weight(point_embeddings[BoxEnd])]);
            sparse = cat([sparse, corners + kind], dim: 1);
        }
        var dense = prompts.Masks is { } masks
            ? mask_downscaling.forward(masks)
            : Weight(no_mask_embed).view(1, -1, 1, 1).expand(1, -1, _config.GridSize, _config.GridSize);
        return (sparse.MoveToOuterDisposeScope(), dense.MoveToOuterDisposeScope());
    }

    /// <summary>Without a box the reference appends one "no point", so that the model always sees at least two tokens.</summary>
    private Tensor Points(Tensor points, Tensor labels, bool pad)
    {
        if (pad)
        {
            points = cat([points, zeros(points.shape[0], 1, 2)], dim: 1);
            labels = cat([labels, full([labels.shape[0], 1], -1, dtype: labels.dtype)], dim: 1);
        }
        var none = labels.eq(-1).unsqueeze(-1);
        var outside = labels.eq(0).unsqueeze(-1) * Weight(point_embeddings[OutsidePoint]);
        var inside = labels.eq(1).unsqueeze(-1) * Weight(point_embeddings[InsidePoint]);
        return where(none, Weight(not_a_point_embed), Encode(points) + outside + inside);
    }

    /// <summary>Pixel corners → encodings of the pixels' centres.</summary>
    private Tensor Encode(Tensor points) => pe_layer.forward((points + 0.5) / _config.ImageSize);

    private static Tensor Weight(Embedding embedding) => embedding.weight!.view(-1);

    /// <summary>Sines and cosines of random projections of positions in 0..1.</summary>
    private sealed class PositionEncoding : Module<Tensor, Tensor>
    {
        private readonly Tensor positional_encoding_gaussian_matrix;

        public PositionEncoding(int features)
            : base(nameof(PositionEncoding))
        {
            positional_encoding_gaussian_matrix = randn(2, features);
            register_buffer(nameof(positional_encoding_gaussian_matrix), positional_encoding_gaussian_matrix);
            RegisterComponents();
        }

        /// <summary>[..., 2] → [..., 2·features].</summary>
        public override Tensor forward(Tensor positions)
        {
            using var scope = NewDisposeScope();
            var angles = (2 * positions - 1).matmul(get_buffer(nameof(positional_encoding_gaussian_matrix))!) * (2 * Math.PI);
            return cat([angles.sin(), angles.cos()], dim: -1).MoveToOuterDisposeScope();
        }
    }
}
