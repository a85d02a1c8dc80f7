using ILGPU;
using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Gpu;

namespace Pcrl.Kernels.TensorCores;

/// <summary>
/// A convolution of few channels that strides, such as a network's stem, as one without a stride: the pixels of a block of stride × stride become
/// the channels of one pixel (space to depth). Channels come in chunks then, which a kernel copies instead of gathering value by value.
/// </summary>
/// <param name="Stride">Side of a block.</param>
/// <param name="Shape">Of the input in blocks: channels are filled up with zeros to whole chunks.</param>
/// <param name="Form">The convolution over blocks.</param>
internal sealed record PixelBlocks(int Stride, Shape Shape, ConvolutionForm Form)
{
    private const int MostChannels = 32;

    /// <summary>Threads of <see cref="Kernel"/>.</summary>
    public int Lines => Shape.N * Shape.H * Shape.W * Stride;

    /// <summary>The same convolution over blocks, and its weights; null if it has too many channels or blocks do not divide it.</summary>
    public static (PixelBlocks Blocks, float[] Weight)? Of(Operator op, Shape input, ReadOnlySpan<float> weight)
    {
        if (op is not Conv2d { Groups: 1, Dilation: { H: 1, W: 1 }, Stride: { H: > 1 and var s } } conv || conv.Stride.W != s
            || input.C * s * s > MostChannels || input.H % s != 0 || input.W % s != 0)
            return null;
        int depth = (input.C * s * s + TensorTile.Chunk - 1) / TensorTile.Chunk * TensorTile.Chunk;
        var (top, tapsH) = Taps(conv.Kernel.H, conv.Padding.H);
        var (left, tapsW) = Taps(conv.Kernel.W, conv.Padding.W);
        var output = conv.OutputShape(input);
        var grid = new TapGrid
        {
            Extent = new(output.H, output.W), Stride = 1, First = 0, Step = 1,
            Taps = [.. from i in Enumerable.Range(0, tapsH) from j in Enumerable.Range(0, tapsW) select new TapGrid.Tap(top + i, left + j, i * tapsW + j)],
        };
        var order = new WeightOrder(depth, conv.Out, DepthStride: tapsH * tapsW, ColumnStride: depth * tapsH * tapsW);
        var blocked = new float[conv.Out * order.ColumnStride];
        for (int i = 0; i < conv.Kernel.H; i++)
            for (int j = 0; j < conv.Kernel.W; j++)
            {
                int y = i - conv.Padding.H - top * s, x = j - conv.Padding.W - left * s; // from the first tap's first pixel
                for (int column = 0; column < conv.Out; column++)
                    for (int c = 0; c < conv.In; c++)
                        blocked[order.Index(y / s * tapsW + x / s, (y % s * s + x % s) * conv.In + c, column)] =
                            weight[((column * conv.In + c) * conv.Kernel.H + i) * conv.Kernel.W + j];
            }
        return (new(s, new(input.N, input.H / s, input.W / s, depth), new([grid], 1, order, conv.Relu)), blocked);

        (int First, int Count) Taps(int kernel, int padding)
        {
            int first = -((padding + s - 1) / s), last = (int)Math.Floor((kernel - 1.0 - padding) / s);
            return (first, last - first + 1);
        }
    }

    /// <summary>Lays an input [N, H, W, C] out in blocks: a thread copies a line of a block, the last one fills it up with zeros too.</summary>
    internal static void Kernel(Index1D index, ArrayView<ushort> input, ArrayView<ushort> output, int channels, int stride, int width, int depth)
    {
        int block = (int)((uint)index.X / (uint)stride), dy = index - block * stride;
        int line = (int)((uint)block / (uint)width), x = block - line * width; // lines of all images: they are of whole blocks
        int values = stride * channels;
        long from = (((long)line * stride + dy) * width + x) * values, to = (long)block * depth + dy * values;
        for (int i = 0; i < values; i++)
            output[to + i] = input[from + i];
        if (dy == stride - 1)
            for (int i = stride * values; i < depth; i++)
                output[(long)block * depth + i] = 0;
    }
}
