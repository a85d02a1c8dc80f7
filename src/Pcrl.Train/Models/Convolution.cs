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
    /// <summary>
    /// With fewer input channels than a vector has elements, oneDNN's AVX2 kernel for the weight gradient of a strided 1×1 convolution writes outside its memory
    /// (libtorch 2.10, inputs in channels-last order): such a convolution takes its pixels first and has no stride.
    /// </summary>
    private const int FewChannels = 8;

    private readonly Parameter weight; // [out, in, k, k]
    private readonly long _stride, _padding;
    private readonly bool _pixelsFirst;

    /// <summary>A k×k convolution with He initialisation.</summary>
    public Convolution(int inputs, int outputs, int size, int stride = 1, int padding = 0)
        : base(nameof(Convolution))
    {
        weight = Parameter(empty(outputs, inputs, size, size));
        init.kaiming_normal_(weight, mode: init.FanInOut.FanOut, nonlinearity: init.NonlinearityType.ReLU);
        _pixelsFirst = size == 1 && stride > 1 && padding == 0 && inputs < FewChannels;
        (_stride, _padding) = (stride, padding);
        RegisterComponents();
    }

    /// <summary>[N, in, H, W] → [N, out, H', W'].</summary>
    public override Tensor forward(Tensor x)
    {
        using var scope = NewDisposeScope();
        if (_pixelsFirst)
            x = x[TensorIndex.Ellipsis, TensorIndex.Slice(step: _stride), TensorIndex.Slice(step: _stride)];
        long stride = _pixelsFirst ? 1 : _stride;
        return functional.conv2d(x, weight.to(x.dtype), strides: [stride, stride], padding: [_padding, _padding]).MoveToOuterDisposeScope();
    }
}
