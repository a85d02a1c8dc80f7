using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Pcrl.Kernels.Cpu;
using Pcrl.Kernels.Gpu;

namespace Pcrl.Kernels;

/// <summary>Kinds of devices that operators run on.</summary>
public enum DeviceKind
{
    /// <summary>CUDA if a driver and a device are there, else the CPU.</summary>
    Auto,

    /// <summary>Vector instructions and threads of this machine.</summary>
    Cpu,

    /// <summary>The first CUDA device.</summary>
    Cuda,

    /// <summary>The first OpenCL device.</summary>
    OpenCl,

    /// <summary>The GPU kernels on ILGPU's CPU accelerator: right, but a thousand times slower. For tests.</summary>
    Emulator,
}

/// <summary>Where tensors live and operators run. Nothing above this class knows which kind it got.</summary>
public abstract class Device : IDisposable
{
    private protected Device(DeviceKind kind, int threads, string choice)
    {
        Kind = kind;
        Threads = threads;
        Choice = choice;
    }

    /// <summary>What was opened; never <see cref="DeviceKind.Auto"/>.</summary>
    public DeviceKind Kind { get; }

    /// <summary>CPU threads that operators use.</summary>
    public int Threads { get; }

    /// <summary>One line: what was chosen and why, with a warning if it is not what was asked for.</summary>
    public string Choice { get; }

    /// <summary>
    /// Opens a device. Asking for a GPU where there is none, or where its driver fails, opens the CPU and says so in <see cref="Choice"/>.
    /// </summary>
    /// <param name="kind">What is wanted.</param>
    /// <param name="threads">CPU threads, 0 for one per core.</param>
    /// <param name="precision">Wish for a GPU; one without tensor cores for it keeps to fp32 and says so, and so does the CPU.</param>
    public static Device Open(DeviceKind kind = DeviceKind.Auto, int threads = 0, Precision precision = Precision.Fp32)
    {
        ArgumentOutOfRangeException.ThrowIfNegative(threads);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(threads, CpuDevice.MaximumThreads);
        // The driver is asked before anything of ILGPU is loaded: start-up on a machine without a GPU must not pay for it.
        switch (kind)
        {
            case DeviceKind.Cpu:
                return Cpu("asked for");
            case DeviceKind.Emulator:
                return OpenGpu(kind, threads, precision, "asked for");
            case DeviceKind.OpenCl:
                return TryOpenGpu(kind, threads, precision, "asked for");
            case DeviceKind.Cuda or DeviceKind.Auto:
                bool asked = kind == DeviceKind.Cuda;
                if (CudaDriver.WhyUnusable() is { } reason)
                    return Cpu(asked ? $"warning: cuda was asked for, but {reason}" : reason);
                return TryOpenGpu(DeviceKind.Cuda, threads, precision, asked ? "asked for" : "a CUDA device is there");
            default:
                throw new ArgumentOutOfRangeException(nameof(kind));
        }

        CpuDevice Cpu(string why) => new(threads, why: precision == Precision.Fp32 ? why : $"{why}; warning: it computes in fp32");
    }

    /// <summary>A new tensor of zeros.</summary>
    public abstract Tensor NewTensor(Shape shape);

    /// <summary>Packs weights and plans an operator for inputs of one shape.</summary>
    /// <param name="op">The operator.</param>
    /// <param name="input">Shape of every input to come.</param>
    /// <param name="weight">Weights in PyTorch's order; copied.</param>
    /// <param name="bias">One per output channel, or empty; copied.</param>
    /// <exception cref="ArgumentException">Shapes or counts do not fit.</exception>
    public Layer Prepare(Operator op, Shape input, ReadOnlySpan<float> weight = default, ReadOnlySpan<float> bias = default)
    {
        op.OutputShape(input);
        op.CheckWeights(weight.Length, bias.Length);
        return Create(op, input, weight, bias);
    }

    /// <summary>How many images are best given to a layer together: a card is filled by all, the caches of a CPU by a few.</summary>
    public abstract int ImagesAtOnce { get; }

    /// <summary>How many threads can take images through layers side by side; see <see cref="RunLanes"/>. One where every layer fills the device.</summary>
    public virtual int Lanes => 1;

    /// <summary>
    /// Calls <paramref name="work"/>(part, lane) once for every part, as many at a time as there are <see cref="Lanes"/>, each in a lane of its
    /// own. A layer that runs in a lane keeps to that thread and waits for no other; one layer may run in several lanes at once.
    /// The first exception ends it and reaches the caller.
    /// </summary>
    public virtual void RunLanes(int parts, Action<int, int> work)
    {
        for (int part = 0; part < parts; part++)
            work(part, 0);
    }

    /// <summary>How many callers can be in lanes of their own at a time besides; see <see cref="EnterLane"/>. None where every layer fills the device.</summary>
    internal virtual int GuestLanes => 0;

    /// <summary>
    /// Puts the calling thread into a lane of its own, numbered from <see cref="Lanes"/> on, until the result is disposed on the same thread: layers keep to
    /// it then, whatever goes on in other lanes. Waits while all <see cref="GuestLanes"/> are taken.
    /// </summary>
    /// <exception cref="OperationCanceledException">Cancelled while waiting.</exception>
    internal virtual GuestLane EnterLane(CancellationToken cancellation) => throw new NotSupportedException($"{Name(Kind)} has no lanes for callers");

    /// <summary>
    /// Whether an exception is the device's own failure (out of memory, lost, a driver that breaks down) and not the caller's: then everything on
    /// the device is lost, and another one can do the work.
    /// </summary>
    public abstract bool IsFailure(Exception exception);

    /// <summary>Closes this device, tensors and layers with it, and opens the CPU in its place.</summary>
    /// <param name="failure">What happened to it; see <see cref="IsFailure"/>.</param>
    public Device FallBack(Exception failure)
    {
        try
        {
            Dispose();
        }
        catch (Exception second) when (IsFailure(second))
        {
            // A broken driver may refuse this too; the first failure is the one to tell.
        }
        return new CpuDevice(Threads, why: Warning($"{Name(Kind)} gave up", failure));
    }

    /// <summary>Waits until everything that was started has finished. Only clocks need it: reading a tensor waits anyway.</summary>
    public abstract void Synchronize();

    /// <summary>Stops threads, frees the accelerator. Tensors and layers go first.</summary>
    public abstract void Dispose();

    private protected abstract Layer Create(Operator op, Shape input, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias);

    private static Device TryOpenGpu(DeviceKind kind, int threads, Precision precision, string why)
    {
        try
        {
            return OpenGpu(kind, threads, precision, why);
        }
        catch (Exception failure)
        {
            // Drivers fail in as many ways as there are drivers; none of them may end the program.
            return new CpuDevice(threads, why: Warning($"{Name(kind)} could not be opened", failure));
        }
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private static Device OpenGpu(DeviceKind kind, int threads, Precision precision, string why) => GpuDevice.Open(kind, threads, precision, why);

    private static string Name(DeviceKind kind) => kind.ToString().ToLowerInvariant();

    private static string Warning(string what, Exception failure) => $"warning: {what}: {failure.Message.ReplaceLineEndings(" ")}";
}
