using Pcrl.Runtime.Vision;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models.Clip;

/// <summary>Dimensions of a MedCLIP model; the defaults are the published one with Swin-tiny.</summary>
public sealed record MedClipConfig
{
    /// <summary>Text side.</summary>
    public BertConfig Bert { get; init; } = new();

    /// <summary>Vision side; null for ResNet50.</summary>
    public SwinConfig? Swin { get; init; } = new();

    /// <summary>Width of the common space.</summary>
    public int ProjDim { get; init; } = 512;
}

/// <summary>MedCLIP's text side: BERT, three layers averaged, projected.</summary>
public sealed class MedClipText : Module
{
    private readonly Bert model;
    private readonly Module<Tensor, Tensor> projection_head;

    /// <summary>Builds the text side with random weights.</summary>
    public MedClipText(BertConfig config, int projection)
        : base(nameof(MedClipText))
    {
        model = new Bert(config);
        projection_head = Linear(config.HiddenSize, projection, hasBias: false);
        RegisterComponents();
    }

    /// <summary>The encoder.</summary>
    public Bert Encoder => model;

    /// <summary>Ids and mask [B, T] → embeddings [B, P], not normalised. The average includes padding, as in MedCLIP.</summary>
    public Tensor Forward(Tensor ids, Tensor mask)
    {
        using var scope = NewDisposeScope();
        var states = model.HiddenStates(ids, mask);
        var pooled = stack([states[1].mean([1]), states[2].mean([1]), states[^1].mean([1])], dim: 1).mean([1]);
        return projection_head.forward(pooled).MoveToOuterDisposeScope();
    }
}

/// <summary>MedCLIP's vision side with a Swin transformer.</summary>
public sealed class MedClipSwin : Module<Tensor, Tensor>
{
    private readonly Swin model;
    private readonly Module<Tensor, Tensor> projection_head;

    /// <summary>Builds the vision side with random weights.</summary>
    public MedClipSwin(SwinConfig config, int projection)
        : base(nameof(MedClipSwin))
    {
        model = new Swin(config);
        projection_head = Linear(config.OutputWidth, projection, hasBias: false);
        RegisterComponents();
    }

    /// <summary>The encoder.</summary>
    public Swin Encoder => model;

    /// <summary>[B, 3, S, S] normalised → embeddings [B, P], not normalised.</summary>
    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return projection_head.forward(model.Forward(x).mean([1])).MoveToOuterDisposeScope();
    }
}

/// <summary>MedCLIP's vision side with torchvision's ResNet50, whose classifier is the projection.</summary>
public sealed class MedClipResNet : Module<Tensor, Tensor>
{
    private readonly ResNet model;
    private readonly Func<Tensor, Tensor> _classify; // a module of the trunk by name, as torchvision has it

    /// <summary>Builds the vision side with random weights.</summary>
    public MedClipResNet(int projection)
        : base(nameof(MedClipResNet))
    {
        var config = new VisualConfig { Depths = [3, 4, 6, 3] };
        model = new ResNet(config);
        var classifier = Linear(config.FeatureChannels, projection, hasBias: false);
        model.register_module("fc", classifier);
        _classify = classifier.forward;
        RegisterComponents();
    }

    /// <summary>[B, 3, S, S] normalised → embeddings [B, P], not normalised.</summary>
    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return _classify(model.forward(x).mean([2, 3])).MoveToOuterDisposeScope();
    }
}

/// <summary>MedCLIP: pictures and texts in one space. State dict names are the published checkpoints'.</summary>
public sealed class MedClip : Module
{
    private readonly MedClipText text_model;
    private readonly Module<Tensor, Tensor> vision_model;

    /// <summary>Builds the model with random weights.</summary>
    public MedClip(MedClipConfig config)
        : base(nameof(MedClip))
    {
        text_model = new MedClipText(config.Bert, config.ProjDim);
        vision_model = config.Swin is { } swin ? new MedClipSwin(swin, config.ProjDim) : new MedClipResNet(config.ProjDim);
        RegisterComponents();
    }

    /// <summary>[B, 3, S, S] normalised → unit vectors [B, P].</summary>
    public Tensor Images(Tensor pictures)
    {
        using var scope = NewDisposeScope();
        return functional.normalize(vision_model.forward(pictures), dim: -1).MoveToOuterDisposeScope();
    }

    /// <summary>Ids and mask [B, T] → unit vectors [B, P].</summary>
    public Tensor Texts(Tensor ids, Tensor mask)
    {
        using var scope = NewDisposeScope();
        return functional.normalize(text_model.Forward(ids, mask), dim: -1).MoveToOuterDisposeScope();
    }

    /// <summary>Leftovers of the published checkpoints that the scores don't depend on.</summary>
    public static bool Ignorable(string name) => name == "logit_scale" || name.Contains("pooler.", StringComparison.Ordinal)
        || name.EndsWith("position_ids", StringComparison.Ordinal) || name.EndsWith("relative_position_index", StringComparison.Ordinal)
        || name.EndsWith("num_batches_tracked", StringComparison.Ordinal);
}

/// <summary>The contrastive loss of CLIP and MedCLIP.</summary>
public static class ClipLoss
{
    private const double MaximumLogScale = 4.6052;

    /// <summary>Logits of pictures [N, P] against texts [N, P], both normalised here: [pictures, texts].</summary>
    /// <param name="images">Embeddings of pictures.</param>
    /// <param name="texts">Embeddings of texts.</param>
    /// <param name="logScale">Learned log of the inverse temperature, a scalar.</param>
    public static Tensor Logits(Tensor images, Tensor texts, Tensor logScale)
    {
        using var scope = NewDisposeScope();
        return (functional.normalize(images, dim: -1).mm(functional.normalize(texts, dim: -1).t()) * logScale.clamp(0, MaximumLogScale).exp())
            .MoveToOuterDisposeScope();
    }

    /// <summary>Cross-entropy of matching row i with column i, both ways averaged.</summary>
    public static Tensor Symmetric(Tensor logits)
    {
        using var scope = NewDisposeScope();
        var matching = arange(logits.shape[0]);
        return ((functional.cross_entropy(logits, matching) + functional.cross_entropy(logits.t(), matching)) / 2).MoveToOuterDisposeScope();
    }
}
