using Pcrl.Runtime.Language;
using Pcrl.Runtime.Vision;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Losses;
using Pcrl.Train.Models.Clip;
using Pcrl.Train.Quantisation;
using Pcrl.Train.Torch;
using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models;

/// <summary>What decides a model's shape.</summary>
/// <param name="Visual">The visual path; its token width is the LLM's hidden size.</param>
/// <param name="Language">The LLM.</param>
/// <param name="Lora">Its adapters.</param>
/// <param name="Bert">The frozen text encoder of ablation (e); null where the LLM reads the clues.</param>
/// <param name="Base">How the LLM's frozen weights lie in memory.</param>
public sealed record ModelShape(
    VisualConfig Visual, LlmConfig Language, LoraConfig Lora, BertConfig? Bert = null, BaseWeights Base = BaseWeights.Float32)
{
    /// <summary>Width of the space in which pictures and texts are compared: an eighth of the LLM's, 512 at full size.</summary>
    public int AlignmentWidth => Language.HiddenSize / 8;
}

/// <summary>What the frozen trunk makes of slices: all that the trained branches see of them.</summary>
/// <param name="Pooled">P, global average pool: [N, C].</param>
/// <param name="Grid">G, adaptive average pool: [N, C, grid, grid].</param>
public readonly record struct SliceFeatures(Tensor Pooled, Tensor Grid);

/// <summary>What the two branches make of slices.</summary>
/// <param name="Map">V of the local branch, [N, C, g/2, g/2]; null where it was not computed.</param>
/// <param name="Local">Its tokens, [N, D]; likewise.</param>
/// <param name="Global">Tokens of the global branch, [N, D].</param>
public readonly record struct VisualEncoding(Tensor? Map, Tensor? Local, Tensor Global);

/// <summary>Takes a picture's and a text's representation into one space.</summary>
/// <param name="Visual">[N, D] → [N, D/8].</param>
/// <param name="Text">[N, width of the text encoder] → [N, D/8].</param>
/// <param name="LogitScale">Learned ln(1/τ), a scalar.</param>
public readonly record struct AlignmentHeads(Module<Tensor, Tensor> Visual, Module<Tensor, Tensor> Text, Parameter LogitScale);

/// <summary>
/// The whole model, wired here and nowhere else: slices → trunk → local and global branch → visual tokens → LLM; beside them, for the losses of the clues, the mask
/// head and the alignment heads. Parameter names are the authors' (<c>trunk.*</c>, <c>local_res.*</c>, <c>local_seg.*</c>, <c>local_visual_projector.*</c>,
/// <c>global_visual_projector.*</c>, <c>language_model.*</c>); the heads that compare pictures and texts are called
/// <c>{local,global}_{visual,text,bert}_align</c> and their scales <c>{local,global}_logit_scale</c>.
/// </summary>
public sealed class PcrlModel : Module
{
    private readonly ResNet trunk;
    private readonly Module<Tensor, Tensor> local_res, local_seg, local_visual_projector, global_visual_projector;
    private readonly Module<Tensor, Tensor> local_visual_align, local_text_align, global_visual_align, global_text_align;
    private readonly Parameter local_logit_scale, global_logit_scale;
    private readonly Llama language_model;
    private readonly Bert? text_model;
    private readonly Module<Tensor, Tensor>? local_bert_align, global_bert_align;
    private readonly Tensor _mean, _std;

    /// <summary>ln(1/0.07), CLIP's.</summary>
    private const float InitialLogitScale = 2.6592f;

    /// <summary>Builds the model with fresh weights from torch's generator.</summary>
    public PcrlModel(ModelShape shape)
        : base(nameof(PcrlModel))
    {
        Shape = shape;
        var visual = shape.Visual;
        if (visual.TokenWidth != shape.Language.HiddenSize)
            throw new ArgumentException($"visual tokens of width {visual.TokenWidth} for an LLM of width {shape.Language.HiddenSize}", nameof(shape));
        trunk = new ResNet(visual);
        local_res = LocalBranch.Create(visual.FeatureChannels);
        local_visual_projector = Linear(visual.FeatureChannels, visual.TokenWidth);
        global_visual_projector = Sequential(
            ("0", Linear(visual.FeatureChannels, visual.TokenWidth)), ("1", Linear(visual.TokenWidth, visual.TokenWidth)));
        language_model = new Llama(shape.Language, shape.Lora, shape.Base);
        local_seg = MaskHead.Create(visual.FeatureChannels);
        Module<Tensor, Tensor> Align(int width) => Linear(width, shape.AlignmentWidth);
        local_visual_align = Align(visual.TokenWidth);
        local_text_align = Align(visual.TokenWidth);
        global_visual_align = Align(visual.TokenWidth);
        global_text_align = Align(visual.TokenWidth);
        local_logit_scale = Parameter(tensor(InitialLogitScale));
        global_logit_scale = Parameter(tensor(InitialLogitScale));
        if (shape.Bert is { } bert)
        {
            text_model = new Bert(bert);
            local_bert_align = Align(bert.HiddenSize);
            global_bert_align = Align(bert.HiddenSize);
        }
        RegisterComponents();
        _mean = tensor(visual.Mean.ToArray()).DetachFromDisposeScope();
        _std = tensor(visual.Std.ToArray()).DetachFromDisposeScope();
    }

    /// <summary>
    /// A model without memory behind its weights: it has their names and shapes, at any size, and can compute nothing. Not to be made beside other torch work, since
    /// torch's default device is the process's.
    /// </summary>
    public static PcrlModel Outline(ModelShape shape)
    {
        set_default_device(META);
        try
        {
            return new PcrlModel(shape);
        }
        finally
        {
            set_default_device(TorchDevice.Current);
        }
    }

    /// <summary>Dimensions.</summary>
    public ModelShape Shape { get; }

    /// <summary>The LLM.</summary>
    public Llama Language => language_model;

    /// <summary>The ResNet, with parameters called <c>trunk.*</c> in the whole.</summary>
    public Module Trunk => trunk;

    /// <summary>Predicts masks from V: <c>local_seg</c>.</summary>
    public Module<Tensor, Tensor> Masks => local_seg;

    /// <summary>What compares slices with the entities' texts.</summary>
    public AlignmentHeads Local => new(local_visual_align, text_model is null ? local_text_align : local_bert_align!, local_logit_scale);

    /// <summary>What compares studies with whole findings.</summary>
    public AlignmentHeads Global => new(global_visual_align, text_model is null ? global_text_align : global_bert_align!, global_logit_scale);

    /// <summary>The frozen text encoder of ablation (e), or null.</summary>
    public Bert? TextModel => text_model;

    /// <summary>
    /// What is trained on the given losses; everything else is frozen. The branches and adapters belong to L_g and to the clues as well (both flow through them),
    /// the mask head to L_seg, the heads of an alignment to its loss. Parts of a head that a variant leaves unused (the logit scale in the paper's form, the
    /// LLM's text head where BERT reads) are counted, as in the authors' checkpoints, and get no gradient.
    /// </summary>
    public IReadOnlyList<(string Name, Parameter Value)> Trained(LossConfig loss)
    {
        List<string> prefixes = ["local_res.", "local_visual_projector.", "global_visual_projector."];
        if (loss.Segmentation > 0)
            prefixes.Add("local_seg.");
        if (loss.Entity > 0)
            prefixes.AddRange(["local_visual_align.", "local_text_align.", "local_bert_align.", "local_logit_scale"]);
        if (loss.Theme > 0)
            prefixes.AddRange(["global_visual_align.", "global_text_align.", "global_bert_align.", "global_logit_scale"]);
        return [.. named_parameters()
            .Where(p => LoraLinear.IsAdapter(p.name) || prefixes.Any(prefix => p.name.StartsWith(prefix, StringComparison.Ordinal)))
            .Select(p => (p.name, p.parameter))];
    }

    /// <summary>How many weights of each part are trained on the given losses; all adapters together are called LoRA.</summary>
    public IReadOnlyList<(string Part, long Count)> TrainedCounts(LossConfig loss) => [.. Trained(loss)
        .GroupBy(p => LoraLinear.IsAdapter(p.Name) ? "LoRA" : p.Name.Split('.')[0], p => p.Value.numel())
        .Select(part => (part.Key, part.Sum()))];

    /// <summary>Leaves gradients to what is trained on the given losses, puts that into training mode, and gives it back.</summary>
    public IReadOnlyList<(string Name, Parameter Value)> Train(LossConfig loss)
    {
        var trained = Trained(loss);
        foreach (var parameter in parameters())
            parameter.requires_grad = false;
        foreach (var (_, parameter) in trained)
            parameter.requires_grad = true;
        SetReportTraining(true);
        return trained;
    }

    /// <summary>Another model with the same weights.</summary>
    public PcrlModel Replicate()
    {
        var copy = new PcrlModel(Shape);
        using var nothing = no_grad();
        foreach (var (to, from) in copy.parameters().Concat(copy.buffers()).Zip(parameters().Concat(buffers())))
            to.copy_(from);
        return copy;
    }

    /// <summary>Puts the trained parts into training mode, or everything into evaluation mode. The frozen trunk's BatchNorm never moves.</summary>
    public void SetReportTraining(bool training)
    {
        eval();
        local_res.train(training);
        language_model.train(training);
    }

    /// <summary>Outputs of the trunk's stages: grey slices [N, S, S] in 0..1 → [N, C, h, w] each.</summary>
    /// <param name="slices">Float32.</param>
    /// <param name="type">What the trunk computes in; the outputs are float32.</param>
    public IReadOnlyList<Tensor> TrunkStages(Tensor slices, ScalarType type = ScalarType.Float32)
    {
        using var scope = NewDisposeScope();
        // Three equal channels by broadcasting, channels innermost in memory: the convolutions run a third faster so.
        var input = ((slices.unsqueeze(-1) - _mean) / _std).permute(0, 3, 1, 2).to(type); // [N, 3, S, S]
        return [.. trunk.Stages(input).Select(output => output.to(float32).MoveToOuterDisposeScope())];
    }

    /// <summary>Grey slices [N, S, S] in 0..1 → P and G.</summary>
    public SliceFeatures Features(Tensor slices)
    {
        using var scope = NewDisposeScope();
        var output = TrunkStages(slices)[^1];
        long grid = Shape.Visual.Grid;
        return new SliceFeatures(
            output.mean([2, 3]).MoveToOuterDisposeScope(),
            functional.adaptive_avg_pool2d(output, [grid, grid]).MoveToOuterDisposeScope());
    }

    /// <summary>Both branches over the slices of a batch.</summary>
    /// <param name="features">Of all slices [B·24, …].</param>
    /// <param name="local">Whether the local branch is wanted where the visual tokens do without it.</param>
    public VisualEncoding Encode(SliceFeatures features, bool local)
    {
        using var scope = NewDisposeScope();
        var tokens = global_visual_projector.forward(features.Pooled);
        if (!local && !LocalTokens)
            return new VisualEncoding(null, null, tokens.MoveToOuterDisposeScope());
        var map = local_res.forward(features.Grid);
        var localTokens = local_visual_projector.forward(map.mean([2, 3]));
        return new VisualEncoding(map.MoveToOuterDisposeScope(), localTokens.MoveToOuterDisposeScope(), tokens.MoveToOuterDisposeScope());
    }

    /// <summary>H_v of a batch of studies: features of all their slices [B·24, …] → [B, 48 or 24, D], local rows first.</summary>
    public Tensor VisualTokens(SliceFeatures features, long batch)
    {
        using var scope = NewDisposeScope();
        return VisualTokens(Encode(features, local: false), batch).MoveToOuterDisposeScope();
    }

    /// <summary>H_v from what the branches gave.</summary>
    public Tensor VisualTokens(VisualEncoding encoding, long batch)
    {
        using var scope = NewDisposeScope();
        long width = Shape.Visual.TokenWidth;
        var tokens = encoding.Global.view(batch, -1, width);
        return (LocalTokens ? cat([encoding.Local!.view(batch, -1, width), tokens], dim: 1) : tokens).MoveToOuterDisposeScope();
    }

    private bool LocalTokens => Shape.Visual.VisualTokens != "global";

    /// <inheritdoc/>
    protected override void Dispose(bool disposing)
    {
        if (disposing)
        {
            _mean.Dispose();
            _std.Dispose();
        }
        base.Dispose(disposing);
    }
}
