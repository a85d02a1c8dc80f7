using Pcrl.Kernels.Convolution;

namespace Pcrl.Runtime.Vision;

/// <summary>The block that trunk and local branch share.</summary>
internal static class ResidualBlocks
{
    /// <summary>
    /// Two 3×3 convolutions, the first with the stride, and a shortcut, which is a convolution of its own where the shape changes. The trunk's
    /// shortcut has a 1×1 kernel, the local branch's (§3.1) a 2×2.
    /// </summary>
    public static Network.Value Basic(Network network, string name, Network.Value x, int width, int stride, int downsampleKernel)
    {
        var shortcut = stride == 1 && x.Shape.C == width
            ? x
            : network.Add($"{name}.downsample", new Conv2d(x.Shape.C, width, downsampleKernel) { Stride = stride }, x);
        var y = network.Add($"{name}.conv1", new Conv2d(x.Shape.C, width, 3) { Stride = stride, Padding = 1, Relu = true }, x);
        return network.Add($"{name}.conv2", new Conv2d(width, width, 3) { Padding = 1, Relu = true }, y, shortcut);
    }
}
