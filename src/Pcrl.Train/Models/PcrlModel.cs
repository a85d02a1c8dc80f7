using Pcrl.Runtime.Language;
using Pcrl.Runtime.Vision;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models;

/// <summary>What decides a model's shape.</summary>
/// <param name="Visual">The visual path; its token width is the LLM's hidden size.</param>
/// <param name="Language">The LLM.</param>
/// <param name="Lora">Its adapters.</param>
public sealed record ModelShape(VisualConfig Visual, LlmConfig Language, LoraConfig Lora);

/// <summary>What the frozen trunk makes of slices: all that the trained branches see of them.</summary>
/// <param name="Pooled">P, global average pool: [N, C].</param>
/// <param name="Grid">G, adaptive average pool: [N, C, grid, grid].</param>
public readonly record struct SliceFeatures(Tensor Pooled, Tensor Grid);

/// <summary>
/// The whole model, wired here and nowhere else: slices → trunk → local and global branch → visual tokens → LLM. Parameter names are the authors'
/// (<c>trunk.*</c>, <c>local_res.*</c>, <c>local_visual_projector.*</c>, <c>global_visual_projector.*</c>, <c>language_model.*</c>). The mask head
/// <c>local_seg</c> and the alignment heads of the clues join here when their losses do.
/// </summary>
public sealed class PcrlModel : Module
{
    private readonly ResNet trunk;
    private readonly Module<Tensor, Tensor> local_res, local_visual_projector, global_visual_projector;
    private readonly Llama language_model;
    private readonly Tensor _mean, _std;

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
        language_model = new Llama(shape.Language, shape.Lora);
        RegisterComponents();
        _mean = tensor(visual.Mean.ToArray()).DetachFromDisposeScope();
        _std = tensor(visual.Std.ToArray()).DetachFromDisposeScope();
    }

    /// <summary>Dimensions.</summary>
    public ModelShape Shape { get; }

    /// <summary>The LLM.</summary>
    public Llama Language => language_model;

    /// <summary>The ResNet, with parameters called <c>trunk.*</c> in the whole.</summary>
    public Module Trunk => trunk;

    /// <summary>What is trained on reports: both branches and the adapters (§4.1).</summary>
    public IEnumerable<(string Name, TorchSharp.Modules.Parameter Value)> ReportParameters => named_parameters()
        .Where(p => IsBranch(p.name) || p.name.Contains(".lora_"))
        .Select(p => (p.name, p.parameter));

    private static bool IsBranch(string name) =>
        name.StartsWith("local_", StringComparison.Ordinal) || name.StartsWith("global_", StringComparison.Ordinal);

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

    /// <summary>H_v of a batch of studies: features of all their slices [B·24, …] → [B, 48 or 24, D], local rows first.</summary>
    public Tensor VisualTokens(SliceFeatures features, long batch)
    {
        using var scope = NewDisposeScope();
        long width = Shape.Visual.TokenWidth;
        var tokens = global_visual_projector.forward(features.Pooled).view(batch, -1, width);
        if (Shape.Visual.VisualTokens != "global")
        {
            var local = local_visual_projector.forward(local_res.forward(features.Grid).mean([2, 3]));
            tokens = cat([local.view(batch, -1, width), tokens], dim: 1);
        }
        return tokens.MoveToOuterDisposeScope();
    }

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
