using ILGPU;
using ILGPU.Runtime;
using Pcrl.Kernels.Gpu;

namespace Pcrl.Kernels.Convolution;

/// <summary>
/// Convolution, transposed convolution and linear layer on any accelerator, in fp32: a matrix product whose left rows are gathered while they
/// are read. One launch per <see cref="TapGrid"/> and group.
/// </summary>
internal sealed class GpuConvolution : Layer
{
    private readonly List<Launch> _launches = [];

    public GpuConvolution(GpuDevice device, Operator op, Shape input, ConvolutionForm form, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias)
        : base(device, op, input)
    {
        var kernel = device.Accelerator.LoadStreamKernel<ArrayView<float>, ArrayView<float>, ArrayView<float>, ArrayView<int>, ArrayView<float>,
            ArrayView<float>, GemmTile.Dimensions>(GemmTile.Kernel);
        try
        {
            foreach (var (grid, group) in form.Parts)
                _launches.Add(new Launch(device, kernel, form, grid, group, Input, Output, weight, bias));
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public override void Dispose() => _launches.ForEach(l => l.Dispose());

    private protected override void Execute(Tensor input, Tensor output, Tensor? residual)
    {
        ArrayView<float> x = ((GpuTensor)input).Floats, y = ((GpuTensor)output).Floats;
        ArrayView<float> added = residual is GpuTensor r ? r.Floats : x;
        foreach (var launch in _launches)
            launch.Run(x, y, added, residual is not null);
    }

    private sealed class Launch : IDisposable
    {
        private readonly Action<KernelConfig, ArrayView<float>, ArrayView<float>, ArrayView<float>, ArrayView<int>, ArrayView<float>, ArrayView<float>, GemmTile.Dimensions> _kernel;
        private readonly MemoryBuffer1D<int, Stride1D.Dense>? _taps;
        private readonly MemoryBuffer1D<float, Stride1D.Dense>? _weight, _bias;
        private readonly GemmTile.Dimensions _dimensions;
        private readonly int _tiles;

        public Launch(GpuDevice device,
            Action<KernelConfig, ArrayView<float>, ArrayView<float>, ArrayView<float>, ArrayView<int>, ArrayView<float>, ArrayView<float>, GemmTile.Dimensions> kernel,
            ConvolutionForm form, TapGrid grid, int group, Shape input, Shape output, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias)
        {
            var order = form.Order;
            int columnTiles = (order.Columns + GemmTile.Side - 1) / GemmTile.Side, columns = columnTiles * GemmTile.Side;
            int depth = (order.Depth + GemmTile.Depth - 1) / GemmTile.Depth * GemmTile.Depth;
            long rows = (long)input.N * grid.Extent.H * grid.Extent.W;
            _kernel = kernel;
            _tiles = checked((int)((rows + GemmTile.Side - 1) / GemmTile.Side * columnTiles));
            _dimensions = GemmTile.Dimensions.Of(form, grid, group, input, output);
            // [taps, depth, columns], filled up with zeros: the kernel reads whole tiles.
            var packed = new float[(long)grid.Taps.Length * depth * columns];
            var groupWeight = form.WeightOf(group, weight);
            for (int tap = 0; tap < grid.Taps.Length; tap++)
                for (int k = 0; k < order.Depth; k++)
                    for (int column = 0; column < order.Columns; column++)
                        packed[((long)tap * depth + k) * columns + column] = groupWeight[order.Index(grid.Taps[tap].Index, k, column)];
            var biases = new float[columns];
            form.BiasOf(group, bias).CopyTo(biases);
            int[] taps = [.. grid.Taps.SelectMany(t => (int[])[t.Dy, t.Dx])];
            try
            {
                _taps = device.Allocate(taps);
                _weight = device.Allocate(packed);
                _bias = device.Allocate(biases);
            }
            catch
            {
                Dispose();
                throw;
            }
        }

        public void Run(ArrayView<float> input, ArrayView<float> output, ArrayView<float> residual, bool hasResidual) =>
            _kernel(new KernelConfig(_tiles, GemmTile.Threads), input, output, residual, _taps!.View, _weight!.View, _bias!.View,
                _dimensions with { HasResidual = hasResidual ? 1 : 0 });

        public void Dispose()
        {
            _taps?.Dispose();
            _weight?.Dispose();
            _bias?.Dispose();
        }
    }
}
