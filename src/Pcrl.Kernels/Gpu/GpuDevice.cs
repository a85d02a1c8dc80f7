using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using ILGPU.Runtime.Cuda;
using ILGPU.Runtime.OpenCL;
using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Pooling;
using Pcrl.Kernels.TensorCores;

namespace Pcrl.Kernels.Gpu;

/// <summary>
/// A device that ILGPU drives: CUDA, OpenCL, or ILGPU's own CPU accelerator. In fp32 the kernels are the same for all; in bfloat16 convolutions
/// run on CUDA's tensor cores. Everything is queued in one stream, and only copies to and from the host wait.
/// </summary>
internal sealed class GpuDevice : Device
{
    private const int TensorCoreGeneration = 8; // compute capability with cp.async and bfloat16
    private const DeviceAttributeKind SharedBytesOfABlock = (DeviceAttributeKind)97; // CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN

    private readonly Context _context;
    private readonly Dictionary<(TensorTile, bool, bool), CudaModule> _modules = [];
    private MemoryBuffer1D<float, Stride1D.Dense>? _staging;
    private Action<Index1D, ArrayView<float>, ArrayView<ushort>>? _toHalves;
    private Action<Index1D, ArrayView<ushort>, ArrayView<float>>? _toFloats;

    private GpuDevice(DeviceKind kind, int threads, Precision precision, Context context, Accelerator accelerator, string why)
        : base(kind, threads > 0 ? threads : Environment.ProcessorCount, $"{kind.ToString().ToLowerInvariant()}, {accelerator.Name}, {precision.ToString().ToLowerInvariant()} ({why})")
    {
        _context = context;
        Accelerator = accelerator;
        Precision = precision;
    }

    public Accelerator Accelerator { get; }

    /// <summary>Of all its tensors.</summary>
    public Precision Precision { get; }

    public override int ImagesAtOnce => int.MaxValue;

    /// <summary>Thrown by the next allocation or copy, which is where a driver reports that memory is out or a kernel has failed. Tests set it.</summary>
    internal Exception? Fault { get; set; }

    public static GpuDevice Open(DeviceKind kind, int threads, Precision precision, string why)
    {
        var context = Context.Create(builder => _ = kind switch
        {
            DeviceKind.Cuda => builder.Cuda().Optimize(OptimizationLevel.O2),
            DeviceKind.OpenCl => builder.OpenCL().Optimize(OptimizationLevel.O2),
            DeviceKind.Emulator => builder.CPU(CPUDeviceKind.Nvidia), // the one with groups as large as a card's
            _ => throw new ArgumentOutOfRangeException(nameof(kind)),
        });
        try
        {
            // Where a driver has no device, ILGPU puts its emulator in, which would take an hour for a study.
            var type = kind switch { DeviceKind.Cuda => AcceleratorType.Cuda, DeviceKind.OpenCl => AcceleratorType.OpenCL, _ => AcceleratorType.CPU };
            var device = context.Devices.FirstOrDefault(d => d.AcceleratorType == type) ?? throw new InvalidOperationException("no such device");
            var accelerator = device.CreateAccelerator(context);
            if (precision == Precision.Bf16 && kind != DeviceKind.Emulator && accelerator is not CudaAccelerator { Architecture.Major: >= TensorCoreGeneration })
                (precision, why) = (Precision.Fp32, $"{why}; warning: it has no tensor cores for bf16");
            return new GpuDevice(kind, threads, precision, context, accelerator, why);
        }
        catch
        {
            context.Dispose();
            throw;
        }
    }

    public override Tensor NewTensor(Shape shape) => new GpuTensor(this, shape);

    public override void Synchronize() => Accelerator.DefaultStream.Synchronize();

    public override bool IsFailure(Exception exception) => exception is AcceleratorException or InternalCompilerException or NotSupportedException;

    /// <summary>Memory of the accelerator, not cleared.</summary>
    public MemoryBuffer1D<T, Stride1D.Dense> Allocate<T>(long count)
        where T : unmanaged
    {
        ThrowFault();
        return Accelerator.Allocate1D<T>(Math.Max(1, count)); // drivers have no empty memory
    }

    /// <summary>The same, with values in it.</summary>
    public MemoryBuffer1D<T, Stride1D.Dense> Allocate<T>(T[] values)
        where T : unmanaged
    {
        var memory = Allocate<T>(values.LongLength);
        memory.View.SubView(0, values.LongLength).CopyFromCPU(values);
        return memory;
    }

    /// <summary>Floats on their way between the host and a tensor of bfloat16; valid until the next copy.</summary>
    public ArrayView<float> Staging(long count)
    {
        if (_staging is null || _staging.Length < count)
        {
            _staging?.Dispose();
            _staging = null;
            _staging = Allocate<float>(count);
        }
        return _staging.View.SubView(0, count);
    }

    public void ToHalves(int count, ArrayView<float> from, ArrayView<ushort> to) =>
        (_toHalves ??= Accelerator.LoadAutoGroupedStreamKernel<Index1D, ArrayView<float>, ArrayView<ushort>>(ToHalvesKernel))(count, from, to);

    public void ToFloats(int count, ArrayView<ushort> from, ArrayView<float> to) =>
        (_toFloats ??= Accelerator.LoadAutoGroupedStreamKernel<Index1D, ArrayView<ushort>, ArrayView<float>>(ToFloatsKernel))(count, from, to);

    /// <summary>The tile for a product on the tensor cores.</summary>
    /// <exception cref="NotSupportedException">There are none.</exception>
    public TensorTile ChooseTile(long rows, int columns, int steps, bool wholeChunks) => Accelerator is CudaAccelerator cuda
        ? TensorTile.Choose(rows, columns, steps, wholeChunks, cuda.NumMultiprocessors, BlockSharedBytes(cuda), IsHopper(cuda))
        : throw new NotSupportedException($"{Accelerator.Name} has no tensor cores");

    /// <summary>Whether the card can run a tile at all; the benchmark runs those too that <see cref="ChooseTile"/> leaves.</summary>
    internal bool HasTile(TensorTile tile) =>
        Accelerator is CudaAccelerator cuda && tile.SharedBytes <= BlockSharedBytes(cuda) && (IsHopper(cuda) || !tile.Warpgroups);

    private static int BlockSharedBytes(CudaAccelerator cuda) => CudaAPI.CurrentAPI.GetDeviceAttribute(SharedBytesOfABlock, cuda.DeviceId);

    /// <summary>wgmma is Hopper's alone: later generations do not run it either.</summary>
    private static bool IsHopper(CudaAccelerator cuda) => cuda.Architecture is { Major: 9, Minor: 0 };

    /// <summary>The tensor-core kernel of a tile, compiled by the driver when it is first asked for.</summary>
    public CudaModule Module(TensorTile tile, bool wholeChunks, bool wholeStores)
    {
        if (!_modules.TryGetValue((tile, wholeChunks, wholeStores), out var module))
        {
            string ptx = TensorKernel.Write(tile, wholeChunks, wholeStores);
            module = new CudaModule((CudaAccelerator)Accelerator, ptx, TensorKernel.Name, tile.Threads, tile.SharedBytes);
            _modules.Add((tile, wholeChunks, wholeStores), module);
        }
        return module;
    }

    /// <summary>See <see cref="Fault"/>.</summary>
    public void ThrowFault()
    {
        if (Fault is { } fault)
            throw fault;
    }

    public override void Dispose()
    {
        foreach (var module in _modules.Values)
            module.Dispose();
        _staging?.Dispose();
        Accelerator.Dispose();
        _context.Dispose();
    }

    internal static void ToHalvesKernel(Index1D index, ArrayView<float> from, ArrayView<ushort> to) => to[index] = Bfloat16.Round(from[index]);

    internal static void ToFloatsKernel(Index1D index, ArrayView<ushort> from, ArrayView<float> to) => to[index] = Bfloat16.ToFloat(from[index]);

    private protected override Layer Create(Operator op, Shape input, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias) => op switch
    {
        MaxPool2d pool => GpuPooling.Create(this, pool, input),
        AdaptiveAvgPool2d pool => GpuPooling.Create(this, pool, input),
        _ when ConvolutionForm.Of(op, input) is { } form => GpuPointwise.Takes(form) ? new GpuPointwise(this, op, input, form, weight, bias)
            : Precision == Precision.Fp32
            ? new GpuConvolution(this, op, input, form, weight, bias)
            : new TensorConvolution(this, op, input, form, weight, bias),
        _ => throw new NotSupportedException($"the GPU does not know {op}"),
    };
}
