using Pcrl.Train.Torch;
using TorchSharp;

namespace Pcrl.Train.Tests.Models;

[Collection("torch")]
public class TorchDeviceTests
{
    [Fact]
    public void The_native_library_loads_and_the_seed_counts()
    {
        TorchDevice.Configure(threads: 1, seed: 7);
        float[] first = [.. torch.randn(5).data<float>()];
        TorchDevice.Configure(threads: 1, seed: 7);
        Assert.Equal(first, torch.randn(5).data<float>().ToArray());
    }
}
