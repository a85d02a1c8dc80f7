using ILGPU;
using ILGPU.Runtime;
using Pcrl.Kernels.Gpu;

namespace Pcrl.Kernels.Convolution;

/// <summary>
/// A convolution of a few channels into a few, pixel by pixel, such as normalising: a thread per pixel. A tile of matrix product would be
/// nearly empty. Weights and sums are fp32 in either precision.
/// </summary>
internal sealed class GpuPointwise : Layer
{
    private const int MostChannels = 4;

    private readonly Action<GpuTensor, GpuTensor, GpuTensor?> _run;
    private readonly MemoryBuffer1D<float, Stride1D.Dense>? _weight, _bias;

    public GpuPointwise(GpuDevice device, Operator op, Shape input, ConvolutionForm form, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias)
        : base(device, op, input)
    {
        var biases = new float[form.Order.Columns];
        bias.CopyTo(biases);
        try
        {
            _weight = device.Allocate(weight.ToArray()); // [columns, depth]
            _bias = device.Allocate(biases);
        }
        catch
        {
            Dispose();
            throw;
        }
        var d = GemmTile.Dimensions.Of(form, form.Grids[0], group: 0, Input, Output);
        var tap = form.Grids[0].Taps[0];
        _run = device.Precision == Precision.Fp32 ? Bind<float, Fp32Element>(t => t.Floats) : Bind<ushort, Bf16Element>(t => t.Halves);

        Action<GpuTensor, GpuTensor, GpuTensor?> Bind<T, TElement>(Func<GpuTensor, ArrayView<T>> values)
            where T : unmanaged
            where TElement : unmanaged, IElement<T>
        {
            var launch = device.Accelerator.LoadAutoGroupedStreamKernel<Index1D, ArrayView<T>, ArrayView<T>, ArrayView<T>, ArrayView<float>, ArrayView<float>,
                GemmTile.Dimensions, int, int>(Kernel<T, TElement>);
            return (input, output, residual) => launch(d.Rows, values(input), values(output), values(residual ?? input),
                _weight.View, _bias.View, d with { HasResidual = residual is null ? 0 : 1 }, tap.Dy, tap.Dx);
        }
    }

    /// <summary>Whether it is small enough.</summary>
    public static bool Takes(ConvolutionForm form) => form is { Groups: 1, Grids: [{ Taps: [_] }], Order: { Depth: <= MostChannels, Columns: <= MostChannels, DepthStride: 1 } };

    public override void Dispose()
    {
        _weight?.Dispose();
        _bias?.Dispose();
    }

    internal static void Kernel<T, TElement>(Index1D index, ArrayView<T> input, ArrayView<T> output, ArrayView<T> residual, ArrayView<float> weight,
        ArrayView<float> bias, GemmTile.Dimensions d, int dy, int dx)
        where T : unmanaged
        where TElement : unmanaged, IElement<T>
    {
        TElement element = default;
        long from = d.Source(d.Place(index), dy, dx), to = d.Target(index);
        for (int column = 0; column < d.Columns; column++)
        {
            float sum = bias[column];
            if (from >= 0)
                for (int k = 0; k < d.Depth; k++)
                    sum += element.ToFloats(input[from + k]).A * weight[column * d.Depth + k];
            if (d.HasResidual != 0)
                sum += element.ToFloats(residual[to + column]).A;
            output[to + column] = element.FromFloats(new Channels { A = d.Relu != 0 && sum < 0 ? 0 : sum });
        }
    }

    private protected override void Execute(Tensor input, Tensor output, Tensor? residual) => _run((GpuTensor)input, (GpuTensor)output, (GpuTensor?)residual);
}
