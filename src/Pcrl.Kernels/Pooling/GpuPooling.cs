using ILGPU;
using ILGPU.Runtime;
using Pcrl.Kernels.Gpu;

namespace Pcrl.Kernels.Pooling;

/// <summary>Shapes of a pooling, for its kernels: a thread per output element.</summary>
internal struct PoolDimensions
{
    public int Height, Width, OutputHeight, OutputWidth, Channels;
    public int KernelH, KernelW, StrideH, StrideW, PaddingH, PaddingW;

    public static PoolDimensions Of(Shape input, Shape output) => new()
    {
        Height = input.H, Width = input.W, OutputHeight = output.H, OutputWidth = output.W, Channels = input.C,
    };
}

/// <inheritdoc cref="MaxPool2d"/>
internal sealed class GpuMaxPool2d : Layer
{
    private readonly Action<Index1D, ArrayView<float>, ArrayView<float>, PoolDimensions> _kernel;
    private readonly PoolDimensions _dimensions;

    public GpuMaxPool2d(GpuDevice device, MaxPool2d op, Shape input)
        : base(device, op, input)
    {
        _kernel = device.Accelerator.LoadAutoGroupedStreamKernel<Index1D, ArrayView<float>, ArrayView<float>, PoolDimensions>(Kernel);
        _dimensions = PoolDimensions.Of(Input, Output) with
        {
            KernelH = op.Kernel.H, KernelW = op.Kernel.W, StrideH = op.Stride.H, StrideW = op.Stride.W, PaddingH = op.Padding.H, PaddingW = op.Padding.W,
        };
    }

    public override void Dispose()
    {
    }

    private protected override void Execute(Tensor input, Tensor output, Tensor? residual) =>
        _kernel((int)Output.Count, ((GpuTensor)input).Floats, ((GpuTensor)output).Floats, _dimensions);

    internal static void Kernel(Index1D index, ArrayView<float> input, ArrayView<float> output, PoolDimensions d)
    {
        int channel = index % d.Channels, x = index / d.Channels % d.OutputWidth, y = index / d.Channels / d.OutputWidth % d.OutputHeight;
        int image = index / d.Channels / d.OutputWidth / d.OutputHeight;
        int top = y * d.StrideH - d.PaddingH, left = x * d.StrideW - d.PaddingW;
        int bottom = IntrinsicMath.Min(top + d.KernelH, d.Height), right = IntrinsicMath.Min(left + d.KernelW, d.Width);
        float best = float.NegativeInfinity;
        for (int i = IntrinsicMath.Max(top, 0); i < bottom; i++)
            for (int j = IntrinsicMath.Max(left, 0); j < right; j++)
            {
                float value = input[(((long)image * d.Height + i) * d.Width + j) * d.Channels + channel];
                if (value > best || float.IsNaN(value)) // a NaN wins, and nothing is greater than it afterwards
                    best = value;
            }
        output[index] = best;
    }
}

/// <inheritdoc cref="AdaptiveAvgPool2d"/>
internal sealed class GpuAdaptiveAvgPool2d : Layer
{
    private readonly Action<Index1D, ArrayView<float>, ArrayView<float>, PoolDimensions> _kernel;
    private readonly PoolDimensions _dimensions;

    public GpuAdaptiveAvgPool2d(GpuDevice device, AdaptiveAvgPool2d op, Shape input)
        : base(device, op, input)
    {
        _kernel = device.Accelerator.LoadAutoGroupedStreamKernel<Index1D, ArrayView<float>, ArrayView<float>, PoolDimensions>(Kernel);
        _dimensions = PoolDimensions.Of(Input, Output);
    }

    public override void Dispose()
    {
    }

    private protected override void Execute(Tensor input, Tensor output, Tensor? residual) =>
        _kernel((int)Output.Count, ((GpuTensor)input).Floats, ((GpuTensor)output).Floats, _dimensions);

    internal static void Kernel(Index1D index, ArrayView<float> input, ArrayView<float> output, PoolDimensions d)
    {
        int channel = index % d.Channels, x = index / d.Channels % d.OutputWidth, y = index / d.Channels / d.OutputWidth % d.OutputHeight;
        int image = index / d.Channels / d.OutputWidth / d.OutputHeight;
        int top = y * d.Height / d.OutputHeight, bottom = ((y + 1) * d.Height + d.OutputHeight - 1) / d.OutputHeight;
        int left = x * d.Width / d.OutputWidth, right = ((x + 1) * d.Width + d.OutputWidth - 1) / d.OutputWidth;
        float sum = 0;
        for (int i = top; i < bottom; i++)
            for (int j = left; j < right; j++)
                sum += input[(((long)image * d.Height + i) * d.Width + j) * d.Channels + channel];
        output[index] = sum / ((bottom - top) * (right - left));
    }
}
