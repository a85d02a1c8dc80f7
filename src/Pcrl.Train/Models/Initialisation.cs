using TorchSharp.Modules;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models;

/// <summary>Initial values of the weights that are learned from nothing.</summary>
internal static class Initialisation
{
    /// <summary>He initialisation of every convolution below <paramref name="module"/>; BatchNorm keeps its 1 and 0.</summary>
    public static void Convolutions(Module module)
    {
        foreach (var convolution in module.modules().OfType<Conv2d>())
            init.kaiming_normal_(convolution.weight!, mode: init.FanInOut.FanOut, nonlinearity: init.NonlinearityType.ReLU);
    }

    /// <summary>
    /// Standard deviation 1/√fan_in. The 0.02 that is right at d = 4096 is too small at d = 128: training then stalls for hundreds of steps.
    /// </summary>
    public static Tensor Linear(long outputs, long inputs) => randn(outputs, inputs) / Math.Sqrt(inputs);
}
