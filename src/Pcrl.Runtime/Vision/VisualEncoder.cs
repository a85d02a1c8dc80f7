using Pcrl.Kernels;
using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Pooling;
using TensorPrimitives = System.Numerics.Tensors.TensorPrimitives;

namespace Pcrl.Runtime.Vision;

/// <summary>
/// The visual path (§3.1): slices → trunk → local branch (local_res, pooled, projected) and global branch (pooled, projected) → visual
/// tokens, and on request the segmentation masks that ground a report. Weights are packed and memory is allocated once, here; encoding
/// allocates nothing. One study at a time has all threads: a second caller waits. Guests go beside it, each on its caller's thread.
/// </summary>
public sealed class VisualEncoder : IDisposable
{
    private readonly Lock _oneAtATime = new();
    private readonly Network _branches;
    private readonly Device _device;
    private readonly Tensor[] _tokens; // for each study on its way [tokens, 1, 1, D]: local rows first
    private readonly Tensor[]? _maskLogits; // for each study on its way [slices, Grid, Grid, 1]

    /// <param name="config">Dimensions.</param>
    /// <param name="weights">Gives the tensors by the names in <c>visual.gguf</c>.</param>
    /// <param name="device">Where it runs; it must outlive the encoder.</param>
    /// <param name="segmentation">Whether the segmentation head <c>local_seg</c> is there and wanted.</param>
    /// <param name="slices">Slices per study.</param>
    /// <param name="guests">Whether there is to be room for guests (<see cref="EncodeAsGuest"/>), where the device has lanes and the model is small.</param>
    /// <exception cref="InputException">The config is impossible, or a weight is missing or misshapen.</exception>
    public VisualEncoder(VisualConfig config, WeightReader weights, Device device, bool segmentation = false, int slices = 24, bool guests = false)
    {
        Config = config;
        _device = device;
        Trunk = new VisualTrunk(config, weights, device, slices, guests: guests);
        var passage = Passage.Of(config, device, slices, guests).Branches;
        Guests = passage.Guests;
        bool localTokens = config.VisualTokens != "global";
        int channels = config.FeatureChannels, width = config.TokenWidth;
        _tokens = Studies(Shape.Matrix(config.TokenCount(slices), width));
        _branches = new Network(device, weights, passage);
        if (localTokens || segmentation)
        {
            var v = ResidualBlocks.Basic(_branches, "local_res.0", _branches.BindStudies(Trunk.Grids), channels, stride: 2, downsampleKernel: 2);
            v = ResidualBlocks.Basic(_branches, "local_res.1", v, channels, stride: 1, downsampleKernel: 1);
            if (localTokens)
            {
                var pooled = _branches.Add(new AdaptiveAvgPool2d(1), v);
                _branches.Add("local_visual_projector", new Linear(channels, width), pooled, into: Rows(first: 0));
            }
            if (segmentation)
            {
                _maskLogits = Studies(new Shape(slices, config.Grid, config.Grid, 1));
                var masks = _branches.Add("local_seg.0", new ConvTranspose2d(channels, channels, 2) { Stride = 2, Relu = true }, v);
                _branches.Add("local_seg.2", new Conv2d(channels, 1, 1), masks, into: _branches.BindStudies(_maskLogits));
            }
        }
        var global = _branches.Add("global_visual_projector.0", new Linear(channels, width), _branches.BindStudies(Trunk.Pools));
        _branches.Add("global_visual_projector.1", new Linear(width, width), global, into: Rows(first: TokenCount - slices));
        _branches.Allocate(idle: Guests > 0 ? null : Trunk.Network); // a guest may be in the trunk while another is in the branches

        Tensor[] Studies(Shape shape) => [.. Enumerable.Range(0, passage.Studies).Select(_ => device.NewTensor(shape))];

        Network.Value Rows(int first) => _branches.BindStudies([.. _tokens.Select(study => study.Images(first, slices))]);
    }

    /// <summary>Dimensions.</summary>
    public VisualConfig Config { get; }

    /// <summary>The trunk, with the grid features G of the last study.</summary>
    public VisualTrunk Trunk { get; }

    /// <summary>Rows of the result: 48 or 24 for 24 slices.</summary>
    public int TokenCount => _tokens[0].Shape.N;

    /// <summary>Studies for which there is room besides the one that has all threads.</summary>
    public int Guests { get; }

    /// <summary>Whether masks can be asked for.</summary>
    public bool HasSegmentation => _maskLogits is not null;

    /// <summary>Encodes a study.</summary>
    /// <param name="slices">[slices, S, S], grey in 0..1.</param>
    /// <param name="cancellation">Looked at between layers.</param>
    /// <returns>Visual tokens [<see cref="TokenCount"/>, D]: local rows first, then global ones, each in slice order.</returns>
    public float[] Encode(ReadOnlySpan<float> slices, CancellationToken cancellation = default)
    {
        var tokens = new float[_tokens[0].Shape.Count];
        Encode(slices, tokens, [], cancellation);
        return tokens;
    }

    /// <summary>Encodes a study on the caller's thread alone, while others may be encoded: to the same bits, later, but more studies in the same time. Gives no masks.</summary>
    /// <param name="slices">[slices, S, S], grey in 0..1.</param>
    /// <param name="cancellation">Looked at between layers.</param>
    /// <returns>As <see cref="Encode(ReadOnlySpan{float}, CancellationToken)"/>.</returns>
    /// <exception cref="InvalidOperationException">There is no room for guests.</exception>
    public float[] EncodeAsGuest(ReadOnlySpan<float> slices, CancellationToken cancellation = default)
    {
        if (Guests == 0)
            throw new InvalidOperationException("there is no room for guests");
        using var guest = _device.EnterLane(cancellation);
        int study = 1 + guest.Lane - _device.Lanes;
        Trunk.Run(study, slices, cancellation);
        _branches.Run(study, cancellation);
        return _tokens[study].ToArray();
    }

    /// <summary>Encodes a study into memory of the caller.</summary>
    /// <param name="slices">[slices, S, S], grey in 0..1.</param>
    /// <param name="tokens">[<see cref="TokenCount"/>, D].</param>
    /// <param name="masks">[slices, Grid, Grid], probabilities in 0..1; empty if not wanted.</param>
    /// <param name="cancellation">Looked at between layers.</param>
    /// <exception cref="ArgumentException">A length is wrong, or masks are asked for and there is no segmentation head.</exception>
    public void Encode(ReadOnlySpan<float> slices, Span<float> tokens, Span<float> masks, CancellationToken cancellation = default)
    {
        if (tokens.Length != _tokens[0].Shape.Count)
            throw new ArgumentException($"room for {tokens.Length} values, {_tokens[0].Shape.Count} needed", nameof(tokens));
        if (!masks.IsEmpty && masks.Length != (_maskLogits?[0].Shape.Count ?? 0))
            throw new ArgumentException($"room for {masks.Length} mask values, there are {_maskLogits?[0].Shape.Count ?? 0}", nameof(masks));
        lock (_oneAtATime)
        {
            Trunk.Run(slices, cancellation);
            RunBranches(tokens, masks, cancellation);
        }
    }

    /// <summary>What follows the trunk. The benchmark times it by itself.</summary>
    internal void RunBranches(Span<float> tokens, Span<float> masks, CancellationToken cancellation)
    {
        _branches.Run(0, cancellation);
        _tokens[0].Read(tokens);
        if (masks.IsEmpty)
            return;
        _maskLogits![0].Read(masks);
        TensorPrimitives.Sigmoid(masks, masks);
    }

    /// <summary>See <see cref="VisualTrunk.RunResident"/>; the tokens stay on the device.</summary>
    internal void RunResident()
    {
        Trunk.RunResident();
        _branches.Run(0, CancellationToken.None);
    }

    /// <summary>Frees weights and activations.</summary>
    public void Dispose()
    {
        _branches.Dispose();
        foreach (var tensor in (Tensor[])[.. _tokens, .. _maskLogits ?? []])
            tensor.Dispose();
        Trunk.Dispose();
    }
}
