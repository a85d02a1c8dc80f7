using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Models.Clip;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models.Sam;

/// <summary>Segment Anything of any size. State dict names are the published checkpoints'.</summary>
public sealed class SamModel : Module
{
    private readonly SamImageEncoder image_encoder;
    private readonly SamPromptEncoder prompt_encoder;
    private readonly SamMaskDecoder mask_decoder;

    /// <summary>Builds the model with random weights.</summary>
    public SamModel(SamConfig config)
        : base(nameof(SamModel))
    {
        Config = config;
        image_encoder = new SamImageEncoder(config);
        prompt_encoder = new SamPromptEncoder(config);
        mask_decoder = new SamMaskDecoder(config);
        RegisterComponents();
    }

    /// <summary>Dimensions.</summary>
    public SamConfig Config { get; }

    /// <summary>The parts, for training and for looking inside.</summary>
    public SamImageEncoder ImageEncoder => image_encoder;

    /// <inheritdoc cref="ImageEncoder"/>
    public SamPromptEncoder PromptEncoder => prompt_encoder;

    /// <inheritdoc cref="ImageEncoder"/>
    public SamMaskDecoder MaskDecoder => mask_decoder;

    /// <summary>Opens the weights of any size; the shapes tell which. (The decoder's eight heads, the same in all sizes, they don't tell.)</summary>
    /// <exception cref="InputException">Missing, broken, or of another architecture.</exception>
    public static SamModel Open(string path)
    {
        using var weights = Checkpoint.Open(path);
        var model = new SamModel(Shape(weights));
        try
        {
            Weights.Load(weights, Weights.Of(model), ignore: name => name is "pixel_mean" or "pixel_std");
            model.eval();
            return model;
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    private static SamConfig Shape(ITensorSource weights)
    {
        const string encoder = "image_encoder.", block = encoder + "blocks.";
        int Size(string name, int dimension) => ImageTextScorer.Size(weights, name, dimension);
        int width = Size(encoder + "pos_embed", 3), grid = Size(encoder + "pos_embed", 1), patch = Size(encoder + "patch_embed.proj.weight", 2);
        int depth = ImageTextScorer.Layers(weights, block);
        int[] windows = [.. Enumerable.Range(0, depth).Select(i => (Size($"{block}{i}.attn.rel_pos_h", 0) + 1) / 2)];
        return new SamConfig
        {
            ImageSize = grid * patch,
            PatchSize = patch,
            EmbedDim = width,
            Depth = depth,
            NumHeads = width / Math.Max(1, Size(block + "0.attn.rel_pos_h", 1)),
            MlpRatio = Size(block + "0.mlp.lin1.weight", 0) / (double)width,
            WindowSize = windows.Where(w => w != grid).DefaultIfEmpty(grid).First(),
            GlobalAttnIndexes = [.. Enumerable.Range(0, depth).Where(i => windows[i] == grid)],
            PromptEmbedDim = Size("mask_decoder.iou_token.weight", 1),
            MaskInChans = Size("prompt_encoder.mask_downscaling.3.weight", 0),
            DecoderMlpDim = Size("mask_decoder.transformer.layers.0.mlp.lin1.weight", 0),
            IouHidden = Size("mask_decoder.iou_prediction_head.layers.0.weight", 0),
        };
    }

    /// <summary>Normalises a picture [B, 3, H, W] of 0..255 (longest side ≤ image size) and pads it to the right and below: [B, 3, S, S].</summary>
    public Tensor Preprocess(Tensor picture)
    {
        using var scope = NewDisposeScope();
        var mean = tensor(Config.PixelMean.Select(v => (float)v).ToArray()).view(3, 1, 1);
        var deviation = tensor(Config.PixelStd.Select(v => (float)v).ToArray()).view(3, 1, 1);
        var normal = (picture - mean) / deviation;
        return functional.pad(normal, [0, Config.ImageSize - picture.shape[3], 0, Config.ImageSize - picture.shape[2]]).MoveToOuterDisposeScope();
    }

    /// <summary>Masks for prompts on an embedded picture; shapes as <see cref="SamMaskDecoder.Forward"/>.</summary>
    public (Tensor Masks, Tensor Iou) Predict(Tensor embedding, SamPrompts prompts, bool multimask)
    {
        using var scope = NewDisposeScope();
        var (sparse, dense) = prompt_encoder.Forward(prompts);
        var (masks, iou) = mask_decoder.Forward(embedding, prompt_encoder.DensePositions(), sparse, dense, multimask);
        return (masks.MoveToOuterDisposeScope(), iou.MoveToOuterDisposeScope());
    }

    /// <summary>Low-resolution logits [N, M, L, L] → logits over the original picture [N, M, H, W].</summary>
    /// <param name="masks">What the decoder gave.</param>
    /// <param name="input">Height and width of the resized picture inside the padded square.</param>
    /// <param name="original">Height and width to arrive at.</param>
    public Tensor Postprocess(Tensor masks, (long Height, long Width) input, (long Height, long Width) original)
    {
        using var scope = NewDisposeScope();
        masks = functional.interpolate(masks, [Config.ImageSize, Config.ImageSize], mode: InterpolationMode.Bilinear, align_corners: false);
        masks = masks.narrow(2, 0, input.Height).narrow(3, 0, input.Width);
        return functional.interpolate(masks, [original.Height, original.Width], mode: InterpolationMode.Bilinear, align_corners: false)
            .MoveToOuterDisposeScope();
    }
}
