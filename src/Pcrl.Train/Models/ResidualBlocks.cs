using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models;

/// <summary>Residual block of two 3×3 convolutions (torchvision's BasicBlock); also the block of the local branch.</summary>
public sealed class BasicBlock : Module<Tensor, Tensor>
{
    private readonly Module<Tensor, Tensor> conv1, bn1, conv2, bn2;
    private readonly Module<Tensor, Tensor>? downsample;

    /// <param name="inputs">Channels in.</param>
    /// <param name="outputs">Channels out.</param>
    /// <param name="stride">Stride of the first convolution.</param>
    /// <param name="downsample">What brings the shortcut to the output's shape; null where it already has it.</param>
    public BasicBlock(int inputs, int outputs, int stride, Module<Tensor, Tensor>? downsample)
        : base(nameof(BasicBlock))
    {
        conv1 = new Convolution(inputs, outputs, 3, stride, padding: 1);
        bn1 = BatchNorm2d(outputs);
        conv2 = new Convolution(outputs, outputs, 3, padding: 1);
        bn2 = BatchNorm2d(outputs);
        this.downsample = downsample;
        RegisterComponents();
    }

    /// <summary>[N, in, H, W] → [N, out, ⌈H/stride⌉, ⌈W/stride⌉].</summary>
    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var y = bn2.forward(conv2.forward(functional.relu(bn1.forward(conv1.forward(x)))));
        return functional.relu(y + (downsample?.forward(x) ?? x)).MoveToOuterDisposeScope();
    }
}

/// <summary>Residual block of 1×1, 3×3 and 1×1 convolutions; the stride stands on the 3×3 (torchvision, "v1.5").</summary>
public sealed class Bottleneck : Module<Tensor, Tensor>
{
    /// <summary>Output channels per inner channel.</summary>
    public const int Expansion = 4;

    private readonly Module<Tensor, Tensor> conv1, bn1, conv2, bn2, conv3, bn3;
    private readonly Module<Tensor, Tensor>? downsample;

    /// <param name="inputs">Channels in.</param>
    /// <param name="width">Inner channels; the output has <see cref="Expansion"/> times as many.</param>
    /// <param name="stride">Stride of the 3×3 convolution.</param>
    /// <param name="downsample">What brings the shortcut to the output's shape; null where it already has it.</param>
    public Bottleneck(int inputs, int width, int stride, Module<Tensor, Tensor>? downsample)
        : base(nameof(Bottleneck))
    {
        conv1 = new Convolution(inputs, width, 1);
        bn1 = BatchNorm2d(width);
        conv2 = new Convolution(width, width, 3, stride, padding: 1);
        bn2 = BatchNorm2d(width);
        conv3 = new Convolution(width, width * Expansion, 1);
        bn3 = BatchNorm2d(width * Expansion);
        this.downsample = downsample;
        RegisterComponents();
    }

    /// <summary>[N, in, H, W] → [N, 4·width, ⌈H/stride⌉, ⌈W/stride⌉].</summary>
    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        var y = functional.relu(bn1.forward(conv1.forward(x)));
        y = functional.relu(bn2.forward(conv2.forward(y)));
        y = bn3.forward(conv3.forward(y));
        return functional.relu(y + (downsample?.forward(x) ?? x)).MoveToOuterDisposeScope();
    }
}
