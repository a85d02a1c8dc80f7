using ILGPU;
using ILGPU.Runtime;
using Pcrl.Kernels.Gpu;

namespace Pcrl.Kernels.Pooling;

/// <summary><see cref="MaxPool2d"/> and <see cref="AdaptiveAvgPool2d"/> on a GPU: a thread per output element, or of two in bfloat16; neighbouring threads on neighbouring channels.</summary>
internal sealed class GpuPooling : Layer
{
    private readonly Action<GpuTensor, GpuTensor> _run;

    private GpuPooling(GpuDevice device, Operator op, Shape input, Action<GpuTensor, GpuTensor> run)
        : base(device, op, input) => _run = run;

    public static GpuPooling Create(GpuDevice device, MaxPool2d op, Shape input)
    {
        var d = Dimensions.Of(input, op.OutputShape(input)) with
        {
            KernelH = op.Kernel.H, KernelW = op.Kernel.W, StrideH = op.Stride.H, StrideW = op.Stride.W, PaddingH = op.Padding.H, PaddingW = op.Padding.W,
        };
        return new GpuPooling(device, op, input, device.Precision == Precision.Fp32 ? Bind<float>(device, MaxKernel<float, Fp32Element>, t => t.Floats, d)
            : input.C % 2 == 0 ? Bind<uint>(device, MaxKernel<uint, Bf16PairElement>, t => t.Halves.Cast<uint>(), d with { Channels = input.C / 2 })
            : Bind<ushort>(device, MaxKernel<ushort, Bf16Element>, t => t.Halves, d));
    }

    public static GpuPooling Create(GpuDevice device, AdaptiveAvgPool2d op, Shape input)
    {
        var d = Dimensions.Of(input, op.OutputShape(input));
        return new GpuPooling(device, op, input, device.Precision == Precision.Fp32 ? Bind<float>(device, MeanKernel<float, Fp32Element>, t => t.Floats, d)
            : input.C % 2 == 0 ? Bind<uint>(device, MeanKernel<uint, Bf16PairElement>, t => t.Halves.Cast<uint>(), d with { Channels = input.C / 2 })
            : Bind<ushort>(device, MeanKernel<ushort, Bf16Element>, t => t.Halves, d));
    }

    public override void Dispose()
    {
    }

    internal static void MaxKernel<T, TElement>(Index1D index, ArrayView<T> input, ArrayView<T> output, Dimensions d)
        where T : unmanaged
        where TElement : unmanaged, IElement<T>
    {
        TElement element = default;
        int channel = index % d.Channels, x = index / d.Channels % d.OutputWidth, y = index / d.Channels / d.OutputWidth % d.OutputHeight;
        int image = index / d.Channels / d.OutputWidth / d.OutputHeight;
        int top = y * d.StrideH - d.PaddingH, left = x * d.StrideW - d.PaddingW;
        int bottom = IntrinsicMath.Min(top + d.KernelH, d.Height), right = IntrinsicMath.Min(left + d.KernelW, d.Width);
        float first = float.NegativeInfinity, second = float.NegativeInfinity;
        for (int i = IntrinsicMath.Max(top, 0); i < bottom; i++)
            for (int j = IntrinsicMath.Max(left, 0); j < right; j++)
            {
                var value = element.ToFloats(input[(((long)image * d.Height + i) * d.Width + j) * d.Channels + channel]);
                if (value.First > first || float.IsNaN(value.First)) // a NaN wins, and nothing is greater than it afterwards
                    first = value.First;
                if (value.Second > second || float.IsNaN(value.Second))
                    second = value.Second;
            }
        output[index] = element.FromFloats(first, second);
    }

    internal static void MeanKernel<T, TElement>(Index1D index, ArrayView<T> input, ArrayView<T> output, Dimensions d)
        where T : unmanaged
        where TElement : unmanaged, IElement<T>
    {
        TElement element = default;
        int channel = index % d.Channels, x = index / d.Channels % d.OutputWidth, y = index / d.Channels / d.OutputWidth % d.OutputHeight;
        int image = index / d.Channels / d.OutputWidth / d.OutputHeight;
        int top = y * d.Height / d.OutputHeight, bottom = ((y + 1) * d.Height + d.OutputHeight - 1) / d.OutputHeight;
        int left = x * d.Width / d.OutputWidth, right = ((x + 1) * d.Width + d.OutputWidth - 1) / d.OutputWidth;
        float first = 0, second = 0;
        for (int i = top; i < bottom; i++)
            for (int j = left; j < right; j++)
            {
                var value = element.ToFloats(input[(((long)image * d.Height + i) * d.Width + j) * d.Channels + channel]);
                first += value.First;
                second += value.Second;
            }
        int count = (bottom - top) * (right - left);
        output[index] = element.FromFloats(first / count, second / count);
    }

    private protected override void Execute(Tensor input, Tensor output, Tensor? residual) => _run((GpuTensor)input, (GpuTensor)output);

    private static Action<GpuTensor, GpuTensor> Bind<T>(GpuDevice device, Action<Index1D, ArrayView<T>, ArrayView<T>, Dimensions> kernel,
        Func<GpuTensor, ArrayView<T>> values, Dimensions d)
        where T : unmanaged
    {
        var launch = device.Accelerator.LoadAutoGroupedStreamKernel(kernel);
        return (input, output) => launch(checked((int)values(output).Length), values(input), values(output), d);
    }

    /// <summary>Sizes that the kernels need, channels counted in what a thread takes at once; the mean's have no window.</summary>
    internal struct Dimensions
    {
        public int Height, Width, OutputHeight, OutputWidth, Channels;
        public int KernelH, KernelW, StrideH, StrideW, PaddingH, PaddingW;

        public static Dimensions Of(Shape input, Shape output) => new()
        {
            Height = input.H, Width = input.W, OutputHeight = output.H, OutputWidth = output.W, Channels = input.C,
        };
    }
}
