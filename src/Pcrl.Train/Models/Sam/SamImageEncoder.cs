using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models.Sam;

/// <summary>The vision transformer of Segment Anything; parameter names are its checkpoints'.</summary>
public sealed class SamImageEncoder : Module<Tensor, Tensor>
{
    private readonly PatchEmbedding patch_embed;
    private readonly Parameter pos_embed;
    private readonly ModuleList<SamBlock> blocks;
    private readonly Module<Tensor, Tensor> neck;

    /// <summary>Builds the encoder with small random weights.</summary>
    public SamImageEncoder(SamConfig config)
        : base(nameof(SamImageEncoder))
    {
        patch_embed = new PatchEmbedding(config);
        pos_embed = Parameter(randn(1, config.GridSize, config.GridSize, config.EmbedDim) * 0.02);
        blocks = new ModuleList<SamBlock>([.. Enumerable.Range(0, config.Depth).Select(i =>
            new SamBlock(config, config.GlobalAttnIndexes.Contains(i) ? 0 : config.WindowSize))]);
        neck = Sequential(
            ("0", Conv2d(config.EmbedDim, config.PromptEmbedDim, 1, bias: false)), ("1", new LayerNorm2d(config.PromptEmbedDim)),
            ("2", Conv2d(config.PromptEmbedDim, config.PromptEmbedDim, 3, padding: 1, bias: false)), ("3", new LayerNorm2d(config.PromptEmbedDim)));
        RegisterComponents();
    }

    /// <summary>[B, 3, S, S] normalised and padded → [B, D, S/patch, S/patch].</summary>
    public override Tensor forward(Tensor x) => Forward(x, null);

    /// <summary>The same; <paramref name="probe"/> sees "patch_pos" and "block0", "block1", … as [B, h, w, E].</summary>
    public Tensor Forward(Tensor x, Action<string, Tensor>? probe)
    {
        using var scope = NewDisposeScope();
        x = patch_embed.forward(x) + pos_embed;
        probe?.Invoke("patch_pos", x);
        for (int i = 0; i < blocks.Count; i++)
        {
            var next = blocks[i].forward(x);
            x.Dispose(); // a picture at full size is 12 MB per block and step
            x = next;
            probe?.Invoke($"block{i}", x);
        }
        return neck.forward(x.permute(0, 3, 1, 2)).MoveToOuterDisposeScope();
    }

    private sealed class PatchEmbedding : Module<Tensor, Tensor>
    {
        private readonly Module<Tensor, Tensor> proj;

        public PatchEmbedding(SamConfig config)
            : base(nameof(PatchEmbedding))
        {
            proj = Conv2d(3, config.EmbedDim, config.PatchSize, config.PatchSize);
            RegisterComponents();
        }

        public override Tensor forward(Tensor x)
        {
            using var projected = proj.forward(x);
            return projected.permute(0, 2, 3, 1);
        }
    }
}

/// <summary>One encoder block; its attention is windowed, or global where the window is 0.</summary>
internal sealed class SamBlock : Module<Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor> norm1, norm2;
    private readonly SamAttention attn;
    private readonly SamFeedForward mlp;
    private readonly int _window;

    public SamBlock(SamConfig config, int window)
        : base(nameof(SamBlock))
    {
        const double epsilon = 1e-6;
        norm1 = LayerNorm(config.EmbedDim, epsilon);
        attn = new SamAttention(config, window == 0 ? config.GridSize : window);
        norm2 = LayerNorm(config.EmbedDim, epsilon);
        mlp = new SamFeedForward(config.EmbedDim, (int)(config.EmbedDim * config.MlpRatio), x => functional.gelu(x));
        _window = window;
        RegisterComponents();
    }

    /// <summary>[B, h, w, E] → [B, h, w, E].</summary>
    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var y = norm1.forward(x);
        y = _window == 0 ? attn.forward(y) : Windowed(y);
        x = x + y;
        return (x + mlp.forward(norm2.forward(x))).MoveToOuterDisposeScope();
    }

    /// <summary>Attention inside squares of the window's side; the picture is padded with zeros to whole windows.</summary>
    private Tensor Windowed(Tensor x)
    {
        long batch = x.shape[0], height = x.shape[1], width = x.shape[2], channels = x.shape[3];
        long down = (_window - height % _window) % _window, right = (_window - width % _window) % _window;
        long rows = (height + down) / _window, columns = (width + right) / _window;
        if (down > 0 || right > 0)
            x = functional.pad(x, [0, 0, 0, right, 0, down]);
        x = x.view(batch, rows, _window, columns, _window, channels).permute(0, 1, 3, 2, 4, 5).reshape(-1, _window, _window, channels);
        x = attn.forward(x);
        x = x.view(batch, rows, columns, _window, _window, channels).permute(0, 1, 3, 2, 4, 5)
            .reshape(batch, rows * _window, columns * _window, channels);
        return x.narrow(1, 0, height).narrow(2, 0, width);
    }
}

/// <summary>Self-attention over a square of patches with decomposed relative positions.</summary>
internal sealed class SamAttention : Module<Tensor, Tensor>
{
    /// <summary>Attention weights alive at a time: 64 Mi floats. ViT-H at 1024² would need 1 Gi at once.</summary>
    private const long MaximumWeights = 1 << 26;

    private readonly Module<Tensor, Tensor> qkv, proj;
    private readonly Parameter rel_pos_h, rel_pos_w;
    private readonly int _heads, _headSize;

    public SamAttention(SamConfig config, int side)
        : base(nameof(SamAttention))
    {
        (_heads, _headSize) = (config.NumHeads, config.EmbedDim / config.NumHeads);
        qkv = Linear(config.EmbedDim, 3L * config.EmbedDim);
        proj = Linear(config.EmbedDim, config.EmbedDim);
        rel_pos_h = Parameter(zeros(2L * side - 1, _headSize));
        rel_pos_w = Parameter(zeros(2L * side - 1, _headSize));
        RegisterComponents();
    }

    /// <summary>[B, h, w, E] → [B, h, w, E].</summary>
    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        long batch = x.shape[0], height = x.shape[1], width = x.shape[2], length = height * width;
        var packed = qkv.forward(x).view(batch, length, 3, _heads, _headSize).permute(2, 0, 3, 1, 4)
            .reshape(3, batch * _heads, length, _headSize);
        var rows = Relative(rel_pos_h, height);
        var columns = Relative(rel_pos_w, width);
        long step = Math.Max(1, MaximumWeights / (length * length));
        var parts = new List<Tensor>();
        for (long first = 0; first < batch * _heads; first += step)
        {
            var part = packed.narrow(1, first, Math.Min(step, batch * _heads - first));
            parts.Add(Attend(part[0], part[1], part[2], rows, columns));
        }
        var attended = cat(parts).view(batch, _heads, length, _headSize).transpose(1, 2).reshape(batch, height, width, -1);
        return proj.forward(attended).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Queries, keys, values [N, h·w, head] → [N, h·w, head]. A query's relative positions stand behind its own numbers, and behind a key's stands a one for its row
    /// and one for its column: one product gives both, and nothing is added to the weights, which are what costs time and memory here.
    /// </summary>
    private Tensor Attend(Tensor queries, Tensor keys, Tensor values, Tensor rows, Tensor columns)
    {
        using var scope = NewDisposeScope();
        long count = queries.shape[0], height = rows.shape[0], width = columns.shape[0];
        var grid = queries.view(count, height, width, _headSize);
        var byRow = einsum("nhwc,hkc->nhwk", grid, rows).flatten(1, 2); // [N, h·w, h]
        var byColumn = einsum("nhwc,wkc->nhwk", grid, columns).flatten(1, 2);
        var ownRow = eye(height, dtype: keys.dtype).repeat_interleave(width, 0).expand(count, -1, -1);
        var ownColumn = eye(width, dtype: keys.dtype).repeat(height, 1).expand(count, -1, -1);
        var weights = cat([queries * (1 / Math.Sqrt(_headSize)), byRow, byColumn], -1).bmm(cat([keys, ownRow, ownColumn], -1).transpose(1, 2));
        return functional.softmax(weights, -1).bmm(values).MoveToOuterDisposeScope();
    }

    /// <summary>The embedding of every (query, key) distance along one axis: [2·side − 1, head] → [size, size, head].</summary>
    private static Tensor Relative(Tensor table, long size)
    {
        long distances = 2 * size - 1;
        if (table.shape[0] != distances)
            table = functional.interpolate(table.t().unsqueeze(0), [distances], mode: InterpolationMode.Linear).squeeze(0).t();
        var position = arange(size, device: table.device);
        return table.index_select(0, (position.unsqueeze(1) - position.unsqueeze(0) + (size - 1)).flatten()).view(size, size, -1);
    }
}

/// <summary>Two linear layers with an activation between.</summary>
internal sealed class SamFeedForward : Module<Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor> lin1, lin2;
    private readonly Func<Tensor, Tensor> _activation;

    public SamFeedForward(int width, int hidden, Func<Tensor, Tensor> activation)
        : base(nameof(SamFeedForward))
    {
        lin1 = Linear(width, hidden);
        lin2 = Linear(hidden, width);
        _activation = activation;
        RegisterComponents();
    }

    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return lin2.forward(_activation(lin1.forward(x))).MoveToOuterDisposeScope();
    }
}

/// <summary>LayerNorm over the channels of [N, C, H, W].</summary>
public sealed class LayerNorm2d : Module<Tensor, Tensor>
{
    private const double Epsilon = 1e-6;
    private readonly Parameter weight, bias;

    /// <param name="channels">C.</param>
    public LayerNorm2d(int channels)
        : base(nameof(LayerNorm2d))
    {
        weight = Parameter(ones(channels));
        bias = Parameter(zeros(channels));
        RegisterComponents();
    }

    /// <summary>[N, C, H, W] → [N, C, H, W].</summary>
    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return functional.layer_norm(x.permute(0, 2, 3, 1), weight.shape, weight, bias, Epsilon).permute(0, 3, 1, 2).MoveToOuterDisposeScope();
    }
}
