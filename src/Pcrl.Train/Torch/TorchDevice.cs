using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Torch;

/// <summary>The one place that decides where torch computes, with how many threads, and from which seed.</summary>
public static class TorchDevice
{
    [ThreadStatic]
    private static Generator? _random;

    /// <summary>Where every tensor of a run lives. CPU only so far; a CUDA device slots in here.</summary>
    public static Device Current => CPU;

    /// <summary>
    /// This thread's own random numbers, so that threads that train side by side draw the same ones in every run. Everything random in a
    /// forward pass comes from here; torch's global generator only initialises weights.
    /// </summary>
    public static Generator Random => _random ??= new Generator(0, CPU);

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
