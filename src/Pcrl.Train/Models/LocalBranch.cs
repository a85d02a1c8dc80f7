using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Models;

/// <summary>
/// The local branch <c>local_res</c> of the authors' code: two basic blocks over the grid features, the first halving the resolution,
/// its shortcut a 2×2 convolution of stride 2.
/// </summary>
internal static class LocalBranch
{
    /// <summary>[N, C, g, g] → V [N, C, g/2, g/2].</summary>
    public static Module<Tensor, Tensor> Create(int channels)
    {
        var shortcut = Sequential(("0", new Convolution(channels, channels, 2, 2)), ("1", BatchNorm2d(channels)));
        return Sequential(
            ("0", new BasicBlock(channels, channels, 2, shortcut)),
            ("1", new BasicBlock(channels, channels, 1, null)));
    }
}
