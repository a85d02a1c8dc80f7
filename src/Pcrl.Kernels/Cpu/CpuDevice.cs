using System.Runtime.Intrinsics;
using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Pooling;

namespace Pcrl.Kernels.Cpu;

/// <summary>Vector instructions and threads of this machine.</summary>
internal sealed class CpuDevice : Device
{
    public const int MaximumThreads = 1024;

    private readonly NativeBuffer?[] _scratch; // one per worker, guests included, and the one that all share, those of lanes

    /// <param name="threads">0 for one per core.</param>
    /// <param name="vectorBits">512 or 256, 0 for the widest that the processor does in hardware. Tests choose it.</param>
    /// <param name="why">Why the CPU was chosen, for <see cref="Device.Choice"/>.</param>
    public CpuDevice(int threads = 0, int vectorBits = 0, string why = "asked for")
        : base(DeviceKind.Cpu, threads = threads > 0 ? threads : Environment.ProcessorCount, Describe(threads, vectorBits = Width(vectorBits), why))
    {
        VectorBits = vectorBits;
        Team = new ThreadTeam(threads);
        _scratch = new NativeBuffer?[2 * Team.Workers + 1];
    }

    public int VectorBits { get; }

    public ThreadTeam Team { get; }

    /// <summary>Memory of one worker, at least <paramref name="bytes"/> long, valid until it asks again; grows to the largest wish and stays.</summary>
    public unsafe void* Scratch(int worker, long bytes)
    {
        ref var scratch = ref _scratch[worker];
        if (scratch is null || scratch.Bytes < bytes)
        {
            scratch?.Dispose();
            scratch = new NativeBuffer(bytes);
        }
        return scratch.Address;
    }

    /// <summary>Memory that all workers of a layer see, valid until the next layer asks for it. In a lane that is one worker.</summary>
    public unsafe void* SharedScratch(long bytes) => Scratch(Team.Workers + 1 + Team.Worker, bytes);

    /// <summary>Two share each weight that is read; more need more memory.</summary>
    public override int ImagesAtOnce => 2;

    public override int Lanes => Threads;

    public override void RunLanes(int parts, Action<int, int> work) => Team.Run(parts, work);

    internal override int GuestLanes => Team.Guests;

    internal override GuestLane EnterLane(CancellationToken cancellation) => Team.EnterAsGuest(cancellation);

    public override bool IsFailure(Exception exception) => false;

    public override Tensor NewTensor(Shape shape) => new CpuTensor(this, shape);

    public override void Synchronize()
    {
    }

    public override void Dispose()
    {
        Team.Dispose();
        foreach (var scratch in _scratch)
            scratch?.Dispose();
    }

    private protected override Layer Create(Operator op, Shape input, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias) => op switch
    {
        Conv2d conv when CpuWinograd.Fits(this, conv, conv.OutputShape(input)) => new CpuWinograd(this, conv, input, weight, bias),
        Conv2d conv when CpuSpread.Fits(conv) => new CpuSpread(this, conv, input, weight, bias),
        Conv2d conv => CpuConvolution.Create(this, conv, input, weight, bias),
        ConvTranspose2d conv => CpuConvolution.Create(this, conv, input, weight, bias),
        Linear linear => CpuConvolution.Create(this, linear, input, weight, bias),
        MaxPool2d pool => new CpuPooling(this, pool, input),
        AdaptiveAvgPool2d pool => new CpuPooling(this, pool, input),
        _ => throw new NotSupportedException($"the CPU does not know {op}"),
    };

    private static int Width(int vectorBits) => vectorBits switch
    {
        0 => Vector512.IsHardwareAccelerated ? 512 : 256,
        256 or 512 => vectorBits,
        _ => throw new ArgumentOutOfRangeException(nameof(vectorBits)),
    };

    private static string Describe(int threads, int vectorBits, string why) =>
        $"cpu, {threads} thread{(threads == 1 ? "" : "s")}, {vectorBits}-bit vectors ({why})";
}
