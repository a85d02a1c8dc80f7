using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models.Sam;

/// <summary>Turns an image embedding and prompts into masks with predicted IoU; parameter names are the checkpoints'.</summary>
public sealed class SamMaskDecoder : Module
{
    /// <summary>Masks of different extent that answer one ambiguous prompt.</summary>
    public const int Multimasks = 3;

    private readonly TwoWayTransformer transformer;
    private readonly Embedding iou_token, mask_tokens;
    private readonly Upscaling output_upscaling;
    private readonly ModuleList<Perceptron> output_hypernetworks_mlps;
    private readonly Perceptron iou_prediction_head;

    /// <summary>Builds the decoder with random weights.</summary>
    public SamMaskDecoder(SamConfig config)
        : base(nameof(SamMaskDecoder))
    {
        int width = config.PromptEmbedDim;
        const int tokens = Multimasks + 1;
        transformer = new TwoWayTransformer(config);
        iou_token = Embedding(1, width);
        mask_tokens = Embedding(tokens, width);
        output_upscaling = new Upscaling(width);
        output_hypernetworks_mlps = new ModuleList<Perceptron>([.. Enumerable.Range(0, tokens).Select(_ => new Perceptron(width, width, width / 8))]);
        iou_prediction_head = new Perceptron(width, config.IouHidden, tokens);
        RegisterComponents();
    }

    /// <summary>Patches [N, g·g, D] → what masks are made of, [N, 16·g·g, D/8]: a mask is a weighted sum of these channels. For <see cref="Assemble"/>.</summary>
    internal Tensor Upscale(Tensor patches) => output_upscaling.forward(patches);

    /// <summary>Values [N, M, 16·g·g] in the order of <see cref="Upscale"/> → pictures [N, M, 4g, 4g].</summary>
    internal static Tensor Assemble(Tensor values)
    {
        using var scope = NewDisposeScope();
        long grid = (long)Math.Round(Math.Sqrt(values.shape[2] / 16));
        // Row and column of the patch, then of the two enlargements.
        return values.view(values.shape[0], values.shape[1], grid, grid, 2, 2, 2, 2).permute(0, 1, 2, 4, 6, 3, 5, 7)
            .reshape(values.shape[0], values.shape[1], 4 * grid, 4 * grid).MoveToOuterDisposeScope();
    }

    /// <summary>The way back: pictures [N, 4g, 4g] → values [N, 16·g·g] in the order of <see cref="Upscale"/>.</summary>
    internal static Tensor Take(Tensor pictures)
    {
        long grid = pictures.shape[1] / 4;
        return pictures.view(pictures.shape[0], grid, 2, 2, grid, 2, 2).permute(0, 1, 4, 2, 5, 3, 6).flatten(1);
    }

    /// <summary>Low-resolution mask logits [N, M, 4g, 4g] and predicted IoU [N, M]; M is 3, or 1 without <paramref name="multimask"/>.</summary>
    /// <param name="image">[1, D, g, g] for all prompts, or [N, D, g, g].</param>
    /// <param name="positions">[1, D, g, g].</param>
    /// <param name="sparse">[N, tokens, D].</param>
    /// <param name="dense">[1 or N, D, g, g].</param>
    /// <param name="multimask">Three masks for an ambiguous prompt rather than one.</param>
    public (Tensor Masks, Tensor Iou) Forward(Tensor image, Tensor positions, Tensor sparse, Tensor dense, bool multimask)
    {
        using var scope = NewDisposeScope();
        var (queries, keys) = Attend(image, positions, sparse, dense, transformer.PatchesLearn);
        var (masks, iou) = Masks(queries, keys, multimask);
        return (masks.MoveToOuterDisposeScope(), iou.MoveToOuterDisposeScope());
    }

    /// <summary>
    /// What tokens and patches learn of one another: tokens [N, 1 + 4 + prompts, D] (IoU, masks, prompts) and patches [N, g·g, D], or of every image as they are
    /// without prompts if not <paramref name="patchesLearn"/>. Prompts may be of several images, as many of each.
    /// </summary>
    internal (Tensor Tokens, Tensor Patches) Attend(Tensor image, Tensor positions, Tensor sparse, Tensor dense, bool patchesLearn)
    {
        using var scope = NewDisposeScope();
        var tokens = cat([iou_token.weight!, mask_tokens.weight!]).unsqueeze(0).expand(sparse.shape[0], -1, -1);
        var (queries, keys) = transformer.Forward(image + dense, positions, cat([tokens, sparse], dim: 1), patchesLearn);
        return (queries.MoveToOuterDisposeScope(), keys.MoveToOuterDisposeScope());
    }

    /// <summary>The patches of <see cref="Attend"/> alone, where they do not learn of prompts.</summary>
    internal Tensor Unprompted(Tensor image, Tensor dense) => transformer.Unprompted(image + dense);

    /// <summary>What <see cref="Attend"/> gave → masks and predicted IoU, as <see cref="Forward"/> has them.</summary>
    internal (Tensor Masks, Tensor Iou) Masks(Tensor tokens, Tensor patches, bool multimask)
    {
        using var scope = NewDisposeScope();
        var channels = Upscale(patches).transpose(1, 2); // [B or N, D/8, 16·g·g]
        var weights = Weights(tokens, multimask);
        var logits = Assemble(weights.reshape(channels.shape[0], -1, weights.shape[2]).bmm(channels).view(weights.shape[0], weights.shape[1], -1));
        return (logits.MoveToOuterDisposeScope(), Quality(tokens, multimask).MoveToOuterDisposeScope());
    }

    /// <summary>What the channels of <see cref="Upscale"/> count for in every mask: [N, M, D/8].</summary>
    private Tensor Weights(Tensor tokens, bool multimask)
    {
        using var scope = NewDisposeScope();
        int first = multimask ? 1 : 0, masks = multimask ? Multimasks : 1;
        return stack([.. Enumerable.Range(first, masks).Select(i => output_hypernetworks_mlps[i].forward(tokens.select(1, 1 + i)))], dim: 1).MoveToOuterDisposeScope();
    }

    /// <summary>What the last of the layers that make the weights of three masks sees, before it is cut at zero: [N, 3, D].</summary>
    internal Tensor Choices(Tensor tokens)
    {
        using var scope = NewDisposeScope();
        return stack([.. Enumerable.Range(1, Multimasks).Select(i => output_hypernetworks_mlps[i].Hidden(tokens.select(1, 1 + i)))], dim: 1).MoveToOuterDisposeScope();
    }

    /// <summary>Predicted IoU of every mask: [N, M].</summary>
    internal Tensor Quality(Tensor tokens, bool multimask)
    {
        using var scope = NewDisposeScope();
        return iou_prediction_head.forward(tokens.select(1, 0)).narrow(1, multimask ? 1 : 0, multimask ? Multimasks : 1).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Enlarges fourfold. The checkpoints call its layers transposed convolutions; as their stride is their size, each is a linear map of every patch by itself;
    /// the gradient of the convolution is slow, most of all in bfloat16.
    /// </summary>
    private sealed class Upscaling : Module<Tensor, Tensor>
    {
        private readonly (ConvTranspose2d First, LayerNorm Norm, ConvTranspose2d Second) _layers; // a tuple: fields would be registered under their own names

        public Upscaling(int width)
            : base(nameof(Upscaling))
        {
            _layers = (ConvTranspose2d(width, width / 4, 2, 2), LayerNorm(width / 4, 1e-6), ConvTranspose2d(width / 4, width / 8, 2, 2));
            register_module("0", _layers.First);
            register_module("1", _layers.Norm);
            register_module("3", _layers.Second);
        }

        /// <summary>[N, g·g, D] → [N, 16·g·g, D/8].</summary>
        public override Tensor forward(Tensor x)
        {
            using var scope = NewDisposeScope();
            x = functional.gelu(_layers.Norm.forward(Enlarge(x, _layers.First)));
            return functional.gelu(Enlarge(x, _layers.Second)).MoveToOuterDisposeScope();
        }

        /// <summary>[N, T, in] → [N, 4·T, out].</summary>
        private static Tensor Enlarge(Tensor x, ConvTranspose2d layer)
        {
            var (weight, bias) = (layer.weight!, layer.bias!); // [in, out, 2, 2]
            return functional.linear(x, weight.permute(2, 3, 1, 0).reshape(-1, weight.shape[0]), bias.repeat(4)).view(x.shape[0], -1, weight.shape[1]);
        }
    }

    /// <summary>Three linear layers with ReLU between.</summary>
    private sealed class Perceptron : Module<Tensor, Tensor>
    {
        private readonly ModuleList<Module<Tensor, Tensor>> layers;

        public Perceptron(int inputs, int hidden, int outputs)
            : base(nameof(Perceptron))
        {
            layers = new ModuleList<Module<Tensor, Tensor>>(Linear(inputs, hidden), Linear(hidden, hidden), Linear(hidden, outputs));
            RegisterComponents();
        }

        public override Tensor forward(Tensor x)
        {
            using var scope = NewDisposeScope();
            return layers[2].forward(functional.relu(Hidden(x))).MoveToOuterDisposeScope();
        }

        public Tensor Hidden(Tensor x)
        {
            using var scope = NewDisposeScope();
            return layers[1].forward(functional.relu(layers[0].forward(x))).MoveToOuterDisposeScope();
        }
    }
}
