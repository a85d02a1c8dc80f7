using TorchSharp;
using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models;

/// <summary>
/// A bias-free square convolution that computes in the type of its input: fed bfloat16 it casts its float32 weight on the way, gradients
/// included, which is all of mixed precision that a convolutional network needs (BatchNorm takes mixed types as it is).
/// </summary>
public sealed class Convolution : Module<Tensor, Tensor>
{
    private readonly Parameter weight; // [out, in, k, k]
    private readonly long _stride, _padding;

    /// <summary>A k×k convolution with He initialisation.</summary>
    public Convolution(int inputs, int outputs, int size, int stride = 1, int padding = 0)
        : base(nameof(Convolution))
    {
        weight = Parameter(empty(outputs, inputs, size, size));
        init.kaiming_normal_(weight, mode: init.FanInOut.FanOut, nonlinearity: init.NonlinearityType.ReLU);
        (_stride, _padding) = (stride, padding);
        RegisterComponents();
    }

    /// <summary>[N, in, H, W] → [N, out, H', W'].</summary>
    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        return functional.conv2d(x, weight.to(x.dtype), strides: [_stride, _stride], padding: [_padding, _padding]).MoveToOuterDisposeScope();
    }
}
