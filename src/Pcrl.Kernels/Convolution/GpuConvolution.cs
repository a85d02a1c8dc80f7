using ILGPU;
using ILGPU.Runtime;
using Pcrl.Kernels.Gpu;

namespace Pcrl.Kernels.Convolution;

/// <summary>
/// Convolution, transposed convolution and linear layer on a GPU, in plain fp32: a thread per output element, neighbouring threads on
/// neighbouring output channels, so weights are read and results written side by side.
/// </summary>
internal sealed class GpuConvolution : Layer
{
    private readonly Launch[] _launches;

    private GpuConvolution(GpuDevice device, Operator op, Shape input, Gather[] gathers, int groups, WeightOrder order, bool relu,
        ReadOnlySpan<float> weight, ReadOnlySpan<float> bias)
        : base(device, op, input)
    {
        var accelerator = device.Accelerator;
        var kernel = accelerator.LoadAutoGroupedStreamKernel<Index1D, ArrayView<float>, ArrayView<float>, ArrayView<float>, ArrayView<int>,
            ArrayView<float>, ArrayView<float>, Dimensions>(Kernel);
        int groupWeights = weight.Length / groups;
        _launches = new Launch[gathers.Length * groups];
        for (int g = 0; g < _launches.Length; g++)
        {
            var gather = gathers[g / groups];
            int group = g % groups;
            var packed = Pack(gather.Taps, order, weight.Slice(group * groupWeights, groupWeights));
            var biases = new float[order.Columns];
            if (!bias.IsEmpty)
                bias.Slice(group * order.Columns, order.Columns).CopyTo(biases);
            _launches[g] = new Launch(kernel,
                accelerator.Allocate1D([.. gather.Source, .. gather.Target]),
                accelerator.Allocate1D(packed.Length > 0 ? packed : [0]),
                accelerator.Allocate1D(biases),
                new Dimensions
                {
                    Rows = gather.Rows, Taps = gather.Taps.Length, Depth = order.Depth, Columns = order.Columns,
                    InputChannels = input.C, InputPixels = input.Pixels, FirstInput = group * order.Depth,
                    OutputChannels = Output.C, OutputPixels = Output.Pixels, FirstOutput = group * order.Columns, Relu = relu ? 1 : 0,
                });
        }
    }

    public static GpuConvolution Create(GpuDevice device, Conv2d op, Shape input, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias) =>
        new(device, op, input, Gather.Of(op, input), op.Groups, WeightOrder.Of(op), op.Relu, weight, bias);

    public static GpuConvolution Create(GpuDevice device, ConvTranspose2d op, Shape input, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias) =>
        new(device, op, input, Gather.Of(op, input), groups: 1, WeightOrder.Of(op), op.Relu, weight, bias);

    public static GpuConvolution Create(GpuDevice device, Linear op, Shape input, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias) =>
        new(device, op, input, Gather.Of(op.AsConvolution, input), groups: 1, WeightOrder.Of(op.AsConvolution), op.Relu, weight, bias);

    public override void Dispose()
    {
        foreach (var launch in _launches)
            launch.Dispose();
    }

    private protected override void Execute(Tensor input, Tensor output, Tensor? residual)
    {
        ArrayView<float> x = ((GpuTensor)input).Data, y = ((GpuTensor)output).Data;
        ArrayView<float> added = residual is GpuTensor r ? r.Data : x;
        foreach (var launch in _launches)
            launch.Run(Input.N, x, y, added, residual is not null);
    }

    /// <summary>[taps, input channels, output channels].</summary>
    private static float[] Pack(int[] taps, WeightOrder order, ReadOnlySpan<float> weight)
    {
        var packed = new float[(long)taps.Length * order.Depth * order.Columns];
        int i = 0;
        foreach (int tap in taps)
            for (int k = 0; k < order.Depth; k++)
                for (int column = 0; column < order.Columns; column++)
                    packed[i++] = weight[order.Index(tap, k, column)];
        return packed;
    }

    private static void Kernel(Index1D index, ArrayView<float> input, ArrayView<float> output, ArrayView<float> residual, ArrayView<int> gather,
        ArrayView<float> weight, ArrayView<float> bias, Dimensions d)
    {
        int column = index % d.Columns, row = index / d.Columns % d.Rows, image = index / d.Columns / d.Rows;
        float sum = bias[column];
        for (int tap = 0; tap < d.Taps; tap++)
        {
            int pixel = gather[tap * d.Rows + row];
            if (pixel < 0)
                continue;
            long x = ((long)image * d.InputPixels + pixel) * d.InputChannels + d.FirstInput;
            long w = (long)tap * d.Depth * d.Columns + column;
            for (int k = 0; k < d.Depth; k++)
                sum += input[x + k] * weight[w + (long)k * d.Columns];
        }
        long target = ((long)image * d.OutputPixels + gather[d.Taps * d.Rows + row]) * d.OutputChannels + d.FirstOutput + column;
        if (d.HasResidual != 0)
            sum += residual[target];
        output[target] = d.Relu != 0 && sum < 0 ? 0 : sum; // not Max: a NaN must stay one
    }

    /// <summary>Sizes that the kernel needs, for one gather and one group.</summary>
    internal struct Dimensions
    {
        public int Rows, Taps, Depth, Columns;
        public int InputChannels, InputPixels, FirstInput;
        public int OutputChannels, OutputPixels, FirstOutput;
        public int Relu, HasResidual;
    }

    private sealed class Launch(Action<Index1D, ArrayView<float>, ArrayView<float>, ArrayView<float>, ArrayView<int>, ArrayView<float>, ArrayView<float>, Dimensions> kernel,
        MemoryBuffer1D<int, Stride1D.Dense> gather, MemoryBuffer1D<float, Stride1D.Dense> weight, MemoryBuffer1D<float, Stride1D.Dense> bias,
        Dimensions dimensions) : IDisposable
    {
        public void Run(int images, ArrayView<float> input, ArrayView<float> output, ArrayView<float> residual, bool hasResidual)
        {
            var d = dimensions;
            d.HasResidual = hasResidual ? 1 : 0;
            kernel(images * d.Rows * d.Columns, input, output, residual, gather.View, weight.View, bias.View, d);
        }

        public void Dispose()
        {
            gather.Dispose();
            weight.Dispose();
            bias.Dispose();
        }
    }
}
