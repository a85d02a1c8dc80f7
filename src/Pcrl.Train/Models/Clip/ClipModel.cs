using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models.Clip;

/// <summary>Dimensions of a CLIP model; the defaults are ViT-B/32's.</summary>
public sealed record ClipConfig
{
    /// <summary>Side of the input.</summary>
    public int ImageSize { get; init; } = 224;

    /// <summary>Side of a patch.</summary>
    public int PatchSize { get; init; } = 32;

    /// <summary>Width, layers and heads of the vision side; feed-forward blocks are four times as wide.</summary>
    public int VisionWidth { get; init; } = 768;

    /// <inheritdoc cref="VisionWidth"/>
    public int VisionLayers { get; init; } = 12;

    /// <inheritdoc cref="VisionWidth"/>
    public int VisionHeads { get; init; } = 12;

    /// <summary>Entries of the vocabulary; the last one ends a text.</summary>
    public int VocabSize { get; init; } = 49408;

    /// <summary>Longest text in tokens.</summary>
    public int ContextLength { get; init; } = 77;

    /// <summary>Width, layers and heads of the text side.</summary>
    public int TextWidth { get; init; } = 512;

    /// <inheritdoc cref="TextWidth"/>
    public int TextLayers { get; init; } = 12;

    /// <inheritdoc cref="TextWidth"/>
    public int TextHeads { get; init; } = 8;

    /// <summary>Width of the common space.</summary>
    public int ProjectionDim { get; init; } = 512;

    /// <summary>Per-channel mean of the input in 0..1.</summary>
    public IReadOnlyList<float> Mean { get; init; } = [0.48145466f, 0.4578275f, 0.40821073f];

    /// <summary>Per-channel standard deviation of the input in 0..1.</summary>
    public IReadOnlyList<float> Std { get; init; } = [0.26862954f, 0.26130258f, 0.27577711f];
}

/// <summary>CLIP with a vision transformer. State dict names are Hugging Face's.</summary>
public sealed class ClipModel : Module
{
    private readonly ClipText text_model;
    private readonly ClipVision vision_model;
    private readonly Module<Tensor, Tensor> visual_projection, text_projection;
    private readonly Parameter logit_scale;

    /// <summary>Builds the model with random weights.</summary>
    public ClipModel(ClipConfig config)
        : base(nameof(ClipModel))
    {
        Config = config;
        text_model = new ClipText(config);
        vision_model = new ClipVision(config);
        visual_projection = Linear(config.VisionWidth, config.ProjectionDim, hasBias: false);
        text_projection = Linear(config.TextWidth, config.ProjectionDim, hasBias: false);
        logit_scale = Parameter(tensor(2.6592f));
        RegisterComponents();
    }

    /// <summary>Dimensions.</summary>
    public ClipConfig Config { get; }

    /// <summary>Learned log of the inverse temperature.</summary>
    public Tensor LogitScale => logit_scale;

    /// <summary>[B, 3, S, S] normalised → embeddings [B, P], not normalised.</summary>
    public Tensor Images(Tensor pictures)
    {
        using var scope = NewDisposeScope();
        return visual_projection.forward(vision_model.forward(pictures)).MoveToOuterDisposeScope();
    }

    /// <summary>Token ids [B, T] that end with the end token (padding behind it may be anything) → embeddings [B, P], not normalised.</summary>
    public Tensor Texts(Tensor ids)
    {
        using var scope = NewDisposeScope();
        return text_projection.forward(text_model.forward(ids)).MoveToOuterDisposeScope();
    }

    /// <summary>Leftovers of the published checkpoints that nothing depends on.</summary>
    public static bool Ignorable(string name) => name.EndsWith("position_ids", StringComparison.Ordinal);

    private sealed class ClipVision : Module<Tensor, Tensor>
    {
        private readonly VisionEmbeddings embeddings;
        private readonly Module<Tensor, Tensor> pre_layrnorm, post_layernorm; // the first name is misspelt in every checkpoint
        private readonly ClipEncoder encoder;

        public ClipVision(ClipConfig config)
            : base(nameof(ClipVision))
        {
            embeddings = new VisionEmbeddings(config);
            pre_layrnorm = LayerNorm(config.VisionWidth);
            encoder = new ClipEncoder(config.VisionWidth, config.VisionLayers, config.VisionHeads);
            post_layernorm = LayerNorm(config.VisionWidth);
            RegisterComponents();
        }

        public override Tensor forward(Tensor x)
        {
            using var scope = NewDisposeScope();
            x = encoder.Forward(pre_layrnorm.forward(embeddings.forward(x)), causal: false);
            return post_layernorm.forward(x.select(1, 0)).MoveToOuterDisposeScope();
        }
    }

    private sealed class VisionEmbeddings : Module<Tensor, Tensor>
    {
        private readonly Parameter class_embedding;
        private readonly Module<Tensor, Tensor> patch_embedding;
        private readonly Embedding position_embedding;

        public VisionEmbeddings(ClipConfig config)
            : base(nameof(VisionEmbeddings))
        {
            int side = config.ImageSize / config.PatchSize;
            class_embedding = Parameter(randn(config.VisionWidth) * 0.02);
            patch_embedding = Conv2d(3, config.VisionWidth, config.PatchSize, config.PatchSize, bias: false);
            position_embedding = Embedding(side * side + 1, config.VisionWidth);
            init.normal_(position_embedding.weight!, 0, 0.02);
            RegisterComponents();
        }

        public override Tensor forward(Tensor x)
        {
            using var scope = NewDisposeScope();
            var patches = patch_embedding.forward(x).flatten(2).transpose(1, 2);
            var first = class_embedding.view(1, 1, -1).expand(x.shape[0], 1, -1);
            return (cat([first, patches], dim: 1) + position_embedding.weight!).MoveToOuterDisposeScope();
        }
    }

    private sealed class ClipText : Module<Tensor, Tensor>
    {
        private readonly TextEmbeddings embeddings;
        private readonly ClipEncoder encoder;
        private readonly Module<Tensor, Tensor> final_layer_norm;
        private readonly long _end;

        public ClipText(ClipConfig config)
            : base(nameof(ClipText))
        {
            _end = config.VocabSize - 1;
            embeddings = new TextEmbeddings(config);
            encoder = new ClipEncoder(config.TextWidth, config.TextLayers, config.TextHeads);
            final_layer_norm = LayerNorm(config.TextWidth);
            RegisterComponents();
        }

        /// <summary>[B, T] → the state at the first end token [B, W].</summary>
        public override Tensor forward(Tensor ids)
        {
            using var scope = NewDisposeScope();
            var states = final_layer_norm.forward(encoder.Forward(embeddings.forward(ids), causal: true));
            var end = ids.eq(_end).to(int64).argmax(1).view(-1, 1, 1).expand(-1, 1, states.shape[2]);
            return states.gather(1, end).squeeze(1).MoveToOuterDisposeScope();
        }
    }

    private sealed class TextEmbeddings : Module<Tensor, Tensor>
    {
        private readonly Embedding token_embedding, position_embedding;

        public TextEmbeddings(ClipConfig config)
            : base(nameof(TextEmbeddings))
        {
            token_embedding = Embedding(config.VocabSize, config.TextWidth);
            position_embedding = Embedding(config.ContextLength, config.TextWidth);
            init.normal_(token_embedding.weight!, 0, 0.02);
            init.normal_(position_embedding.weight!, 0, 0.01);
            RegisterComponents();
        }

        public override Tensor forward(Tensor ids)
        {
            using var scope = NewDisposeScope();
            return (token_embedding.forward(ids) + position_embedding.weight!.narrow(0, 0, ids.shape[1])).MoveToOuterDisposeScope();
        }
    }
}
