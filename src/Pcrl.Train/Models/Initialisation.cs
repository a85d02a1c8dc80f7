using static TorchSharp.torch;

namespace Pcrl.Train.Models;

/// <summary>Initial values of the weights that are learned from nothing.</summary>
internal static class Initialisation
{
    /// <summary>
    /// Standard deviation 1/√fan_in. The 0.02 that is right at d = 4096 is too small at d = 128: training then stalls for hundreds of steps.
    /// </summary>
    public static Tensor Linear(long outputs, long inputs) => randn(outputs, inputs) / Math.Sqrt(inputs);
}
