using Pcrl.Runtime.Vision;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models;

/// <summary>The ResNet trunk (§3.1) without its classifier; parameter names are torchvision's.</summary>
public sealed class ResNet : Module<Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor> conv1, bn1;
    private readonly List<Module<Tensor, Tensor>> _stages = [];

    /// <summary>Builds the trunk that <paramref name="config"/> describes.</summary>
    public ResNet(VisualConfig config)
        : base(nameof(ResNet))
    {
        conv1 = new Convolution(3, config.Width, 7, stride: 2, padding: 3);
        bn1 = BatchNorm2d(config.Width);
        RegisterComponents();
        int channels = config.Width;
        for (int stage = 0; stage < config.Depths.Count; stage++)
        {
            var blocks = new List<(string, Module<Tensor, Tensor>)>();
            for (int block = 0; block < config.Depths[stage]; block++)
            {
                int stride = stage > 0 && block == 0 ? 2 : 1;
                (var module, channels) = Block(config.Block, channels, config.Width << stage, stride);
                blocks.Add(($"{block}", module));
            }
            var layer = Sequential(blocks);
            register_module($"layer{stage + 1}", layer);
            _stages.Add(layer);
        }
    }

    private static (Module<Tensor, Tensor> Block, int Outputs) Block(string kind, int inputs, int width, int stride)
    {
        int outputs = kind == "bottleneck" ? width * Bottleneck.Expansion : width;
        var downsample = stride == 1 && inputs == outputs
            ? null
            : Sequential(("0", new Convolution(inputs, outputs, 1, stride)), ("1", BatchNorm2d(outputs)));
        return kind switch
        {
            "bottleneck" => (new Bottleneck(inputs, width, stride, downsample), outputs),
            "basic" => (new BasicBlock(inputs, outputs, stride, downsample), outputs),
            _ => throw new ArgumentException($"unknown residual block '{kind}'", nameof(kind)),
        };
    }

    /// <summary>[N, 3, S, S] normalised → [N, C, h, w], h = w = S / 2^(stages + 1), rounded up.</summary>
    public override Tensor forward(Tensor x) => Stages(x)[^1];

    /// <summary>The output of every stage, the last being the trunk's.</summary>
    public IReadOnlyList<Tensor> Stages(Tensor x)
    {
        using var scope = NewDisposeScope();
        x = functional.max_pool2d(bn1.forward(conv1.forward(x)), 3, 2, 1);
        x = functional.relu(x); // the same behind the pooling as before it, on a quarter of the values
        var outputs = new List<Tensor>();
        foreach (var stage in _stages)
            outputs.Add((x = stage.forward(x)).MoveToOuterDisposeScope());
        return outputs;
    }
}
