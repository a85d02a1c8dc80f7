using Pcrl.Kernels;

namespace Pcrl.Runtime.Vision;

/// <summary>
/// How the slices of a study go through a network: <see cref="Chunk"/> at a time, either one chunk after the other through layers that all
/// threads share, or in lanes, where every thread takes whole chunks through all layers by itself. Where there are lanes, more studies can go
/// through at the same time, each on its caller's thread in a lane of its own (<see cref="Device.EnterLane"/>).
/// </summary>
/// <param name="Lanes">Chunks of the study that has all threads that are on their way at a time.</param>
/// <param name="Chunk">Slices that go through a layer together.</param>
/// <param name="Slices">Slices of a study, a multiple of <see cref="Chunk"/>.</param>
/// <param name="Guests">Studies that can go through besides, each in one lane.</param>
internal sealed record Passage(int Lanes, int Chunk, int Slices, int Guests = 0)
{
    /// <summary>Slices together in a lane of the trunk: they share what is done to the weights, but more than four gain nothing.</summary>
    private const int MostInTrunk = 4;

    /// <summary>Slices together in a lane of the branches, where a slice has hardly any pixels: with fewer, tiles of the kernels would be half empty.</summary>
    private const int LeastInBranches = 8;

    /// <summary>
    /// Bytes of the largest layer in all lanes: those of two slices at full size, so that lanes never need more memory than that. A ResNet's
    /// largest layer is its first: a quarter of the pixels, four bytes each, times the width.
    /// </summary>
    private const long MostBytes = 2L * 512 * 512 * 64;

    /// <summary>Chunks of a study.</summary>
    public int Chunks => Slices / Chunk;

    /// <summary>Studies that can be on their way at a time: number 0 has all threads, the others are guests.</summary>
    public int Studies => 1 + Guests;

    /// <summary>Lanes that need activations of their own: those of study 0, then one for each guest.</summary>
    public int AllLanes => Lanes + Guests;

    /// <summary>
    /// The way through trunk and branches. Where threads share a layer they meet after it, some four hundred times in a study: in a small model
    /// there is little to do in between, and one thread that has to wait for its core makes all others wait. Lanes meet twice. But each needs
    /// activations of its own, and reads all weights for itself.
    /// </summary>
    /// <param name="config">Dimensions.</param>
    /// <param name="device">Where the network runs.</param>
    /// <param name="slices">Slices of a study.</param>
    /// <param name="guests">Whether guests are wanted.</param>
    public static (Passage Trunk, Passage Branches) Of(VisualConfig config, Device device, int slices, bool guests = false)
    {
        if (device.Lanes > 1)
        {
            var trunk = InLanes(1, MostInTrunk);
            long bytes = (long)config.ImageSize * config.ImageSize * config.Width * trunk.Chunk; // of a lane
            int room = guests && bytes * (trunk.Lanes + device.GuestLanes) <= MostBytes ? device.GuestLanes : 0;
            if (bytes * trunk.Lanes <= MostBytes)
                return (trunk with { Guests = room }, InLanes(LeastInBranches, slices) with { Guests = room });
        }
        return (new(1, Divisors(1, device.ImagesAtOnce).Last(), slices), new(1, slices, slices));

        // As few rounds of as few slices as can be, and then as many together as can be.
        Passage InLanes(int least, int most) => Divisors(least, most)
            .Select(chunk => new Passage(Math.Min(device.Lanes, slices / chunk), chunk, slices))
            .OrderBy(p => (p.Chunks + p.Lanes - 1) / p.Lanes * p.Chunk).ThenByDescending(p => p.Chunk).First();

        IEnumerable<int> Divisors(int least, int most) => Enumerable.Range(1, slices).Where(c => slices % c == 0 && c >= Math.Min(least, slices) && c <= most);
    }

    /// <summary>A tensor of all slices as one view for each chunk.</summary>
    public Tensor[] Split(Tensor tensor) => [.. Enumerable.Range(0, Chunks).Select(i => tensor.Images(i * Chunk, Chunk))];
}
