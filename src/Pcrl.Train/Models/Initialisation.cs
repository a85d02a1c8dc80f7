using TorchSharp.Modules;
using static TorchSharp.torch;

namespace Pcrl.Train.Models;

/// <summary>Initial values of the weights that are learned from nothing.</summary>
internal static class Initialisation
{
    /// <summary>
    /// Standard deviation 1/√fan_in. The 0.02 that is right at d = 4096 is too small at d = 128: training then stalls for hundreds of steps.
    /// </summary>
    public static Tensor Linear(long outputs, long inputs) => randn(outputs, inputs) / Math.Sqrt(inputs);

    /// <summary>Gives all linear maps and convolutions of a module that deviation; torch's own is 0.58 of it, and signals shrink from layer to layer.</summary>
    public static void Widen(nn.Module module)
    {
        using var nothing = no_grad();
        foreach (var part in module.modules())
        {
            if (part is Linear linear)
                linear.weight!.normal_(0, 1 / Math.Sqrt(linear.weight.shape[1]));
            else if (part is Conv2d convolution)
                convolution.weight!.normal_(0, 1 / Math.Sqrt(convolution.weight.numel() / (double)convolution.weight.shape[0]));
            else if (part is ConvTranspose2d enlargement)
                enlargement.weight!.normal_(0, 1 / Math.Sqrt(enlargement.weight.shape[0])); // stride = kernel: one input pixel makes an output pixel
        }
    }
}
