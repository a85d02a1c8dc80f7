using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Torch;

/// <summary>The one place that decides where torch computes, with how many threads, and from which seed.</summary>
public static class TorchDevice
{
    /// <summary>Where every tensor of a run lives. CPU only so far; a CUDA device slots in here.</summary>
    public static Device Current => CPU;

    /// <summary>Sets threads and seed for all of torch.</summary>
    /// <param name="threads">
    /// Threads of one operator, at least 1. Runs with the same number agree bit for bit; another number changes the last bits.
    /// </param>
    /// <param name="seed">Seed of torch's own generator (weight initialisation, dropout).</param>
    public static void Configure(int threads, long seed)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(threads, 1);
        set_num_threads(threads);
        random.manual_seed(seed);
    }
}
