using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models.Clip;

/// <summary>Dimensions of a Swin transformer; the defaults are Swin-tiny's.</summary>
public sealed record SwinConfig
{
    /// <summary>Side of the input.</summary>
    public int ImageSize { get; init; } = 224;

    /// <summary>Side of a patch.</summary>
    public int PatchSize { get; init; } = 4;

    /// <summary>Width of the first stage; every later one doubles it.</summary>
    public int EmbedDim { get; init; } = 96;

    /// <summary>Blocks per stage.</summary>
    public IReadOnlyList<int> Depths { get; init; } = [2, 2, 6, 2];

    /// <summary>Attention heads per stage.</summary>
    public IReadOnlyList<int> NumHeads { get; init; } = [3, 6, 12, 24];

    /// <summary>Side of an attention window.</summary>
    public int WindowSize { get; init; } = 7;

    /// <summary>Hidden units of the feed-forward blocks per unit of width.</summary>
    public double MlpRatio { get; init; } = 4;

    /// <summary>ε of every LayerNorm.</summary>
    public double LayerNormEps { get; init; } = 1e-5;

    /// <summary>Width of the last stage.</summary>
    public int OutputWidth => EmbedDim << (Depths.Count - 1);
}

/// <summary>A Swin transformer without classifier; parameter names are Hugging Face's.</summary>
public sealed class Swin : Module
{
    private readonly SwinEmbeddings embeddings;
    private readonly SwinEncoder encoder;
    private readonly Module<Tensor, Tensor> layernorm;
    private readonly SwinConfig _config;

    /// <summary>Builds the model with random weights.</summary>
    public Swin(SwinConfig config)
        : base(nameof(Swin))
    {
        if (config.NumHeads.Count != config.Depths.Count)
            throw new ArgumentException("every stage needs its number of heads", nameof(config));
        _config = config;
        embeddings = new SwinEmbeddings(config);
        encoder = new SwinEncoder(config);
        layernorm = LayerNorm(config.OutputWidth, config.LayerNormEps);
        RegisterComponents();
    }

    /// <summary>[B, 3, S, S] → tokens [B, T, C] after the last norm; <paramref name="probe"/> sees the embeddings (0) and each stage's output (1, 2, …).</summary>
    public Tensor Forward(Tensor x, Action<int, Tensor>? probe = null)
    {
        using var scope = NewDisposeScope();
        int side = _config.ImageSize / _config.PatchSize;
        x = embeddings.forward(x);
        probe?.Invoke(0, x);
        int stage = 0;
        foreach (var layer in encoder.Stages)
        {
            (x, side) = layer.Forward(x, side);
            probe?.Invoke(++stage, x);
        }
        return layernorm.forward(x).MoveToOuterDisposeScope();
    }

    private sealed class SwinEmbeddings : Module<Tensor, Tensor>
    {
        private readonly PatchProjection patch_embeddings;
        private readonly Module<Tensor, Tensor> norm;

        public SwinEmbeddings(SwinConfig config)
            : base(nameof(SwinEmbeddings))
        {
            patch_embeddings = new PatchProjection(config);
            norm = LayerNorm(config.EmbedDim); // ε 1e-5 whatever the configuration says, as in the reference
            RegisterComponents();
        }

        public override Tensor forward(Tensor x)
        {
            using var scope = NewDisposeScope();
            return norm.forward(patch_embeddings.forward(x).flatten(2).transpose(1, 2)).MoveToOuterDisposeScope();
        }

        private sealed class PatchProjection : Module<Tensor, Tensor>
        {
            private readonly Module<Tensor, Tensor> projection;

            public PatchProjection(SwinConfig config)
                : base(nameof(PatchProjection))
            {
                projection = Conv2d(3, config.EmbedDim, config.PatchSize, config.PatchSize);
                RegisterComponents();
            }

            public override Tensor forward(Tensor x) => projection.forward(x);
        }
    }

    private sealed class SwinEncoder : Module
    {
        private readonly ModuleList<SwinStage> layers;

        public SwinEncoder(SwinConfig config)
            : base(nameof(SwinEncoder))
        {
            layers = new ModuleList<SwinStage>([.. Enumerable.Range(0, config.Depths.Count).Select(i => new SwinStage(config, i))]);
            RegisterComponents();
        }

        public IEnumerable<SwinStage> Stages => layers;
    }
}

/// <summary>Blocks of one resolution, then a step to half of it (not behind the last stage).</summary>
internal sealed class SwinStage : Module
{
    private readonly ModuleList<SwinBlock> blocks;
    private readonly SwinDownsample? downsample;

    public SwinStage(SwinConfig config, int stage)
        : base(nameof(SwinStage))
    {
        int width = config.EmbedDim << stage;
        int side = (config.ImageSize / config.PatchSize) >> stage;
        blocks = new ModuleList<SwinBlock>([.. Enumerable.Range(0, config.Depths[stage])
            .Select(i => new SwinBlock(config, width, config.NumHeads[stage], side, shifted: i % 2 == 1))]);
        if (stage + 1 < config.Depths.Count)
            downsample = new SwinDownsample(width);
        RegisterComponents();
    }

    public (Tensor Tokens, int Side) Forward(Tensor x, int side)
    {
        using var scope = NewDisposeScope();
        foreach (var block in blocks)
            x = block.Forward(x, side);
        if (downsample is not null)
            (x, side) = (downsample.Forward(x, side), (side + 1) / 2);
        return (x.MoveToOuterDisposeScope(), side);
    }

    /// <summary>Four neighbours become one token of twice the width.</summary>
    private sealed class SwinDownsample : Module
    {
        private readonly Module<Tensor, Tensor> reduction, norm;

        public SwinDownsample(int width)
            : base(nameof(SwinDownsample))
        {
            reduction = Linear(4L * width, 2L * width, hasBias: false);
            norm = LayerNorm(4L * width);
            RegisterComponents();
        }

        public Tensor Forward(Tensor x, int side)
        {
            using var scope = NewDisposeScope();
            long batch = x.shape[0], width = x.shape[2];
            x = functional.pad(x.view(batch, side, side, width), [0, 0, 0, side % 2, 0, side % 2]);
            long half = (side + 1) / 2;
            // [B, h, row in pair, w, column in pair, C]: columns outside, rows inside, as the checkpoints order them.
            x = x.view(batch, half, 2, half, 2, width).permute(0, 1, 3, 4, 2, 5).reshape(batch, half * half, 4 * width);
            return reduction.forward(norm.forward(x)).MoveToOuterDisposeScope();
        }
    }
}

/// <summary>Attention in windows, which every second block shifts by half a window, and a feed-forward block.</summary>
internal sealed class SwinBlock : Module
{
    private readonly Module<Tensor, Tensor> layernorm_before, layernorm_after;
    private readonly SwinAttention attention;
    private readonly Dense intermediate, output;
    private readonly int _window, _shift;

    public SwinBlock(SwinConfig config, int width, int heads, int side, bool shifted)
        : base(nameof(SwinBlock))
    {
        // A picture that fits one window isn't shifted.
        _window = Math.Min(config.WindowSize, side);
        _shift = shifted && side > config.WindowSize ? config.WindowSize / 2 : 0;
        layernorm_before = LayerNorm(width, config.LayerNormEps);
        attention = new SwinAttention(width, heads, _window);
        layernorm_after = LayerNorm(width, config.LayerNormEps);
        int hidden = (int)(width * config.MlpRatio);
        intermediate = new Dense(width, hidden);
        output = new Dense(hidden, width);
        RegisterComponents();
    }

    public Tensor Forward(Tensor x, int side)
    {
        using var scope = NewDisposeScope();
        long batch = x.shape[0], width = x.shape[2];
        int padding = (_window - side % _window) % _window, padded = side + padding, count = padded / _window;
        var y = layernorm_before.forward(x).view(batch, side, side, width);
        y = functional.pad(y, [0, 0, 0, padding, 0, padding]);
        if (_shift > 0)
            y = y.roll([-_shift, -_shift], [1, 2]);
        y = y.view(batch, count, _window, count, _window, width).permute(0, 1, 3, 2, 4, 5).reshape(-1, _window * _window, width);
        y = attention.Forward(y, _shift > 0 ? ShiftMask(padded) : null, batch);
        y = y.view(batch, count, count, _window, _window, width).permute(0, 1, 3, 2, 4, 5).reshape(batch, padded, padded, width);
        if (_shift > 0)
            y = y.roll([_shift, _shift], [1, 2]);
        x = x + y.narrow(1, 0, side).narrow(2, 0, side).reshape(batch, -1, width);
        return (x + output.forward(functional.gelu(intermediate.forward(layernorm_after.forward(x))))).MoveToOuterDisposeScope();
    }

    /// <summary>Pixels that the shift brought together from opposite edges don't see each other: [windows, window², window²], 0 or −100.</summary>
    private Tensor ShiftMask(int side)
    {
        int Band(int i) => i < side - _window ? 0 : i < side - _shift ? 1 : 2;
        var bands = new float[side * side];
        for (int y = 0; y < side; y++)
        {
            for (int x = 0; x < side; x++)
                bands[y * side + x] = 3 * Band(y) + Band(x);
        }
        int count = side / _window;
        var windows = tensor(bands).view(count, _window, count, _window).transpose(1, 2).reshape(-1, _window * _window);
        return windows.unsqueeze(1).ne(windows.unsqueeze(2)).to(float32) * -100;
    }
}

/// <summary>attention.self (with its table of relative biases) and attention.output.</summary>
internal sealed class SwinAttention : Module
{
    private const string Table = "relative_position_bias_table";

    private readonly QueryKeyValue self;
    private readonly Dense output;
    private readonly int _window;

    public SwinAttention(int width, int heads, int window)
        : base(nameof(SwinAttention))
    {
        _window = window;
        self = new QueryKeyValue(width, heads);
        self.register_parameter(Table, Parameter(zeros((2 * window - 1) * (2 * window - 1), heads)));
        output = new Dense(width, width);
        RegisterComponents();
    }

    /// <summary>[B·windows, window², C] and a mask [windows, window², window²] for every picture → the same shape.</summary>
    public Tensor Forward(Tensor x, Tensor? mask, long batch)
    {
        using var scope = NewDisposeScope();
        var bias = Bias().unsqueeze(0); // [1, heads, window², window²]
        if (mask is not null)
            bias = (bias + mask.unsqueeze(1)).repeat(batch, 1, 1, 1);
        return output.forward(self.Forward(x, bias)).MoveToOuterDisposeScope();
    }

    private Tensor Bias()
    {
        int length = _window * _window;
        var index = new long[length * length];
        for (int i = 0; i < index.Length; i++)
        {
            int from = i / length, to = i % length;
            int rows = from / _window - to / _window + _window - 1, columns = from % _window - to % _window + _window - 1;
            index[i] = rows * (2 * _window - 1) + columns;
        }
        return self.get_parameter(Table)!.index_select(0, tensor(index)).view(length, length, -1).permute(2, 0, 1);
    }
}
