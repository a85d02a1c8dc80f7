using Pcrl.Kernels.Convolution;
using Pcrl.Kernels.Pooling;

namespace Pcrl.Kernels.Tests;

/// <summary>Random operators at shapes that tiles do not like: one pixel, odd sizes under strides, channels just off a tile, dilation, groups.</summary>
internal static class AwkwardShapes
{
    public static (Operator Operator, Shape Input) Next(Random random)
    {
        while (true)
        {
            var (op, input) = Draw(random);
            try
            {
                if (op.OutputShape(input).Count < 20_000)
                    return (op, input);
            }
            catch (ArgumentException)
            {
                // The kernel was larger than the image: draw again.
            }
        }
    }

    private static (Operator, Shape) Draw(Random random)
    {
        int Pick(params int[] of) => of[random.Next(of.Length)];
        int Channels() => Pick(1, 2, 3, 5, 8, 15, 16, 17, 31, 32, 33, 40, 65);
        Size Both(Func<int> draw) => random.Next(3) == 0 ? new Size(draw(), draw()) : (Size)draw();

        var input = new Shape(Pick(1, 1, 2, 3), Pick(1, 2, 3, 5, 7, 8, 13), Pick(1, 2, 3, 4, 6, 7, 9, 17), Channels());
        switch (random.Next(12))
        {
            case 0:
                return (new ConvTranspose2d(input.C, Channels(), Both(() => Pick(1, 2, 3))) { Stride = Both(() => Pick(1, 2, 3)), Padding = Pick(0, 0, 1), Relu = random.Next(2) == 0 }, input);
            case 1:
                return (new Linear(input.C, Channels()) { Relu = random.Next(2) == 0 }, Shape.Matrix(random.Next(1, 40), input.C));
            case 2:
                int kernel = Pick(1, 2, 3, 4);
                return (new MaxPool2d(kernel) { Stride = Both(() => Pick(1, 2, 3)), Padding = random.Next(kernel / 2 + 1) }, input);
            case 3:
                return (new AdaptiveAvgPool2d(Both(() => Pick(1, 2, 3, 7, 14))), input);
            case 4:
                int groups = Pick(2, 3);
                return (new Conv2d(groups * 4, groups * Pick(1, 3, 17), 3) { Groups = groups, Padding = 1, Stride = Pick(1, 2) }, input with { C = groups * 4 });
            case 5: // what residual networks are made of
                return (new Conv2d(input.C, Channels(), 3) { Padding = 1, Stride = Pick(1, 1, 2), Relu = true }, input);
            case 6: // what Winograd's way is taken for, at every size of image and padding
                input = input with { C = Pick(32, 48, 64) };
                return (new Conv2d(input.C, Pick(32, 64), 3) { Padding = Both(() => Pick(0, 1, 1, 2)), Relu = random.Next(2) == 0 }, input);
            case 7: // few channels: kernel rows read as one
                input = input with { C = Pick(1, 2, 3, 4) };
                return (new Conv2d(input.C, Channels(), Both(() => Pick(2, 3, 5, 7)))
                {
                    Stride = Both(() => Pick(1, 2, 3)), Padding = Both(() => Pick(0, 1, 2, 3)), Dilation = new Size(Pick(1, 2), 1), Relu = random.Next(2) == 0,
                }, input);
            case 8: // so many inputs to an output that taps are summed in steps: a few at a time, one at a time
                input = new Shape(Pick(1, 2), Pick(2, 3, 5), Pick(2, 3, 4), Pick(260, 515, 1030, 2100));
                return (new Conv2d(input.C, Pick(1, 16, 33), Both(() => Pick(2, 3))) { Stride = 2, Padding = Pick(0, 1), Relu = random.Next(2) == 0 }, input);
            case 9: // a single channel
                input = input with { C = 1 };
                return (new Conv2d(1, Channels(), Pick(1, 1, 3)) { Stride = Pick(1, 1, 2), Padding = Pick(0, 0, 1), Relu = random.Next(2) == 0 }, input);
            default:
                return (new Conv2d(input.C, Channels(), Both(() => Pick(1, 1, 2, 3, 5, 7)))
                {
                    Stride = Both(() => Pick(1, 1, 2, 3)), Padding = Both(() => Pick(0, 1, 2, 3)), Dilation = Both(() => Pick(1, 1, 2, 3)), Relu = random.Next(2) == 0,
                }, input);
        }
    }
}
