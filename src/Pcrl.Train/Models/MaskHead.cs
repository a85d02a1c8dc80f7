using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models;

/// <summary>The mask head <c>local_seg</c> of the authors' code: a transposed convolution that doubles the resolution, then one channel of probabilities.</summary>
internal static class MaskHead
{
    /// <summary>V [N, C, g/2, g/2] → masks [N, 1, g, g] in 0..1.</summary>
    public static Module<Tensor, Tensor> Create(int channels) => Sequential(
        ("0", ConvTranspose2d(channels, channels, 2, stride: 2)),
        ("1", ReLU()),
        ("2", Conv2d(channels, 1, 1)),
        ("3", Sigmoid()));
}
