using Pcrl.Runtime;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Torch;

/// <summary>The one place that decides where torch computes, with how many threads, and from which seed.</summary>
public static class TorchDevice
{
    private static readonly Lock CardRandom = new();

    [ThreadStatic]
    private static Generator? _random;

    /// <summary>Where every tensor of a run lives.</summary>
    public static Device Current { get; private set; } = CPU;

    /// <summary>Takes a device for all tensors made from now on; to be called before any is made.</summary>
    /// <param name="name"><c>cpu</c>, <c>cuda</c>, or <c>auto</c>: CUDA where there is a device for it.</param>
    /// <returns>One line that says what was chosen.</returns>
    /// <exception cref="InputException">No such device.</exception>
    public static string Choose(string name)
    {
        if (name is not ("auto" or "cpu" or "cuda"))
            throw new InputException("--device", $"'{name}' is none of auto, cpu, cuda");
        bool cuda = name != "cpu" && cuda_is_available();
        if (name == "cuda" && !cuda)
            throw new InputException("--device", "there is no CUDA device, or the program was not built for it (-p:TorchBackend=cuda)");
        if (cuda)
        {
            InitializeDeviceType(DeviceType.CUDA);
            Current = CUDA;
            set_default_device(Current);
        }
        return cuda ? "device: CUDA" : $"device: CPU{(name == "auto" ? " (no CUDA device, or built without it)" : "")}";
    }

    /// <summary>
    /// This thread's own random numbers, so that threads that train side by side draw the same ones in every run. Everything random in a
    /// forward pass comes from here; torch's global generator only initialises weights.
    /// </summary>
    public static Generator Random => _random ??= new Generator(0, CPU);

    /// <summary>Numbers between 0 and 1 that follow from <see cref="Random"/>, on the device.</summary>
    public static Tensor Uniform(params long[] shape) => Draw(generator => rand(shape, generator: generator));

    /// <summary>Numbers of the standard normal distribution that follow from <see cref="Random"/>, on the device.</summary>
    public static Tensor Normal(params long[] shape) => Draw(generator => randn(shape, generator: generator));

    private static Tensor Draw(Func<Generator?, Tensor> draw)
    {
        if (Current.type == DeviceType.CPU)
            return draw(Random);
        // TorchSharp makes generators of the CPU only: the card's one is seeded for each draw.
        using var seed = randint(0, int.MaxValue, [1], ScalarType.Int64, CPU, generator: Random);
        lock (CardRandom)
        {
            cuda.manual_seed_all(seed.item<long>());
            return draw(null);
        }
    }

    /// <summary>Sets the threads of an operator and, for the calling thread, both generators.</summary>
    /// <param name="threads">
    /// Threads of one operator, at least 1. Runs with the same number agree bit for bit; another number changes the last bits.
    /// </param>
    /// <param name="seed">Any number.</param>
    public static void Configure(int threads, long seed)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(threads, 1);
        set_num_threads(threads);
        random.manual_seed(seed);
        SeedThread(seed);
    }

    /// <summary>Sets <see cref="Random"/> of the calling thread alone.</summary>
    public static void SeedThread(long seed) => Random.manual_seed(seed);
}
