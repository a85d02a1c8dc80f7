using ILGPU;
using ILGPU.Runtime;
using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Gpu;

namespace Pcrl.Kernels.TensorCores;

/// <summary>Convolution, transposed convolution and linear layer in bfloat16 on a CUDA card's tensor cores: see <see cref="TensorKernel"/>.</summary>
internal sealed class TensorConvolution : Layer
{
    private readonly List<Launch> _launches = [];
    private readonly MemoryBuffer1D<ushort, Stride1D.Dense>? _blocks; // the input as PixelBlocks lays it out
    private readonly Action<GpuTensor>? _toBlocks;

    /// <param name="device">A CUDA card of compute capability 8.0 or later.</param>
    /// <param name="op">The operator.</param>
    /// <param name="input">Shape of every input.</param>
    /// <param name="form">Of the operator.</param>
    /// <param name="weight">In PyTorch's order.</param>
    /// <param name="bias">One per output channel, or empty.</param>
    /// <param name="tile">The benchmark's choice; null for the device's own.</param>
    public TensorConvolution(GpuDevice device, Operator op, Shape input, ConvolutionForm form, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias, TensorTile? tile = null)
        : base(device, op, input)
    {
        try
        {
            if (PixelBlocks.Of(op, input, weight) is { } found)
            {
                var blocks = found.Blocks;
                form = blocks.Form;
                weight = found.Weight;
                var memory = _blocks = device.Allocate<ushort>(blocks.Shape.Count);
                var kernel = device.Accelerator.LoadAutoGroupedStreamKernel<Index1D, ArrayView<ushort>, ArrayView<ushort>, int, int, int, int>(PixelBlocks.Kernel);
                int channels = input.C;
                _toBlocks = x => kernel(blocks.Lines, x.Halves, memory.View, channels, blocks.Stride, blocks.Shape.W, blocks.Shape.C);
                input = blocks.Shape;
            }
            foreach (var (grid, group) in form.Parts)
            {
                var chosen = tile ?? device.ChooseTile((long)input.N * grid.Extent.H * grid.Extent.W, form.Order.Columns, TensorProduct.Steps(form, grid),
                    TensorProduct.HasWholeChunks(form, input));
                _launches.Add(new Launch(device, TensorProduct.Plan(chosen, form, grid, group, input, Output, weight, bias)));
            }
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    public override void Dispose()
    {
        _launches.ForEach(l => l.Dispose());
        _blocks?.Dispose();
    }

    private protected override void Execute(Tensor input, Tensor output, Tensor? residual)
    {
        _toBlocks?.Invoke((GpuTensor)input);
        nint x = _blocks?.NativePtr ?? Address(input), y = Address(output), added = residual is null ? 0 : Address(residual);
        foreach (var launch in _launches)
            launch.Run(x, y, added);
    }

    private nint Address(Tensor tensor)
    {
        nint address = ((GpuTensor)tensor).Halves.LoadEffectiveAddressAsPtr();
        Operator.Check(address % (TensorTile.Chunk * 2) == 0 || tensor.Shape.C % TensorTile.Chunk != 0, "a view begins between chunks of eight values");
        return address;
    }

    private sealed class Launch : IDisposable
    {
        private readonly CudaModule _kernel;
        private readonly MemoryBuffer1D<int, Stride1D.Dense>? _table;
        private readonly MemoryBuffer1D<ushort, Stride1D.Dense>? _weight;
        private readonly MemoryBuffer1D<float, Stride1D.Dense>? _bias;
        private readonly TensorArguments _arguments;
        private readonly int _blocks;
        private readonly (int Input, int Output) _firstBytes;

        public Launch(GpuDevice device, TensorProduct product)
        {
            _kernel = device.Module(product.Tile, product.WholeChunks, product.WholeStores);
            (_blocks, _firstBytes, _arguments) = (product.Blocks, product.FirstBytes, product.Arguments);
            try
            {
                _table = device.Allocate(product.Table);
                _weight = device.Allocate(product.Weight);
                _bias = device.Allocate(product.Bias);
            }
            catch
            {
                Dispose();
                throw;
            }
            _arguments.Table = _table.NativePtr;
            _arguments.Weight = _weight.NativePtr;
            _arguments.Bias = _bias.NativePtr;
        }

        public void Run(nint input, nint output, nint residual) => _kernel.Launch(_blocks, _arguments with
        {
            Input = input + _firstBytes.Input,
            Output = output + _firstBytes.Output,
            Residual = residual == 0 ? 0 : residual + _firstBytes.Output,
        });

        public void Dispose()
        {
            _table?.Dispose();
            _weight?.Dispose();
            _bias?.Dispose();
        }
    }
}
