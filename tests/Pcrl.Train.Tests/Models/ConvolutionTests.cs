using Pcrl.Train.Models;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Tests.Models;

public sealed class ConvolutionTests
{
    /// <summary>Channels-last, as the trunk gets pictures. Without the care that is taken, libtorch writes outside its memory here on processors without AVX-512 and the process ends.</summary>
    [Theory]
    [InlineData(2)]
    [InlineData(4)]
    [InlineData(7)]
    [InlineData(8)]
    [InlineData(9)]
    [InlineData(12)]
    [InlineData(15)]
    public void A_strided_convolution_of_single_pixels_and_its_gradients_are_right_for_few_channels(int inputs)
    {
        using var scope = NewDisposeScope();
        using var convolution = new Convolution(inputs, 5, size: 1, stride: 2);
        var weight = convolution.parameters().Single();
        var pixels = arange(2 * 9 * 9 * inputs, ScalarType.Float32).remainder(13).reshape(2, 9, 9, inputs).permute(0, 3, 1, 2).requires_grad_(true);
        for (int round = 0; round < 20; round++)
        {
            weight.grad?.zero_();
            pixels.grad?.zero_();
            var output = convolution.forward(pixels);
            output.square().sum().backward();

            var (exactPixels, exactWeight) = (pixels.detach().to(ScalarType.Float64).contiguous().requires_grad_(true), weight.detach().to(ScalarType.Float64).requires_grad_(true));
            var exact = nn.functional.conv2d(exactPixels, exactWeight, strides: [2, 2]);
            exact.square().sum().backward();
            foreach (var (expected, actual) in (IEnumerable<(Tensor, Tensor)>)[(exact, output), (exactPixels.grad!, pixels.grad!), (exactWeight.grad!, weight.grad!)])
            {
                Assert.Equal(expected.shape, actual.shape);
                Assert.InRange(((expected - actual).abs().max() / expected.abs().max()).item<double>(), 0, 1e-5);
            }
        }
    }
}
