using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models.Clip;

/// <summary>CLIP's transformer: norms first, feed-forward blocks of four times the width with a cheap GELU.</summary>
internal sealed class ClipEncoder : Module
{
    private readonly ModuleList<ClipLayer> layers;

    public ClipEncoder(int width, int depth, int heads)
        : base(nameof(ClipEncoder))
    {
        layers = new ModuleList<ClipLayer>([.. Enumerable.Range(0, depth).Select(_ => new ClipLayer(width, heads))]);
        RegisterComponents();
    }

    /// <summary>[B, T, W] → [B, T, W].</summary>
    public Tensor Forward(Tensor x, bool causal)
    {
        using var scope = NewDisposeScope();
        foreach (var layer in layers)
            x = layer.Forward(x, causal);
        return x.MoveToOuterDisposeScope();
    }

    private sealed class ClipLayer : Module
    {
        private readonly ClipAttention self_attn;
        private readonly Module<Tensor, Tensor> layer_norm1, layer_norm2;
        private readonly ClipFeedForward mlp;

        public ClipLayer(int width, int heads)
            : base(nameof(ClipLayer))
        {
            self_attn = new ClipAttention(width, heads);
            layer_norm1 = LayerNorm(width);
            mlp = new ClipFeedForward(width);
            layer_norm2 = LayerNorm(width);
            RegisterComponents();
        }

        public Tensor Forward(Tensor x, bool causal)
        {
            using var scope = NewDisposeScope();
            x = x + self_attn.Forward(layer_norm1.forward(x), causal);
            return (x + mlp.forward(layer_norm2.forward(x))).MoveToOuterDisposeScope();
        }
    }

    private sealed class ClipAttention : Module
    {
        private readonly Module<Tensor, Tensor> q_proj, k_proj, v_proj, out_proj;
        private readonly int _heads;

        public ClipAttention(int width, int heads)
            : base(nameof(ClipAttention))
        {
            _heads = heads;
            q_proj = Linear(width, width);
            k_proj = Linear(width, width);
            v_proj = Linear(width, width);
            out_proj = Linear(width, width);
            RegisterComponents();
        }

        public Tensor Forward(Tensor x, bool causal)
        {
            using var scope = NewDisposeScope();
            Tensor Heads(Tensor y) => y.view(y.shape[0], y.shape[1], _heads, -1).transpose(1, 2);
            var attended = functional.scaled_dot_product_attention(
                Heads(q_proj.forward(x)), Heads(k_proj.forward(x)), Heads(v_proj.forward(x)), is_casual: causal);
            return out_proj.forward(attended.transpose(1, 2).flatten(2)).MoveToOuterDisposeScope();
        }
    }

    private sealed class ClipFeedForward : Module<Tensor, Tensor>
    {
        private readonly Module<Tensor, Tensor> fc1, fc2;

        public ClipFeedForward(int width)
            : base(nameof(ClipFeedForward))
        {
            fc1 = Linear(width, 4L * width);
            fc2 = Linear(4L * width, width);
            RegisterComponents();
        }

        public override Tensor forward(Tensor x)
        {
            using var scope = NewDisposeScope();
            var y = fc1.forward(x);
            return fc2.forward(y * (1.702 * y).sigmoid()).MoveToOuterDisposeScope();
        }
    }
}
