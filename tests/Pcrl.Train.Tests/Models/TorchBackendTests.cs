using System.Diagnostics;
using System.Text.Json;
using Pcrl.Runtime;
using Pcrl.Train.Torch;

namespace Pcrl.Train.Tests.Models;

/// <summary>The switch <c>-p:TorchBackend</c>, as far as evaluating the project goes: the CUDA package is not fetched.</summary>
public class TorchBackendTests
{
    [Theory]
    [InlineData(null, "libtorch-cpu-linux-x64", "TorchSharp-cuda-linux")]
    [InlineData("cpu", "libtorch-cpu-linux-x64", "TorchSharp-cuda-linux")]
    [InlineData("cuda", "TorchSharp-cuda-linux", "libtorch-cpu-linux-x64")]
    public void The_backend_picks_the_native_package(string? backend, string taken, string left)
    {
        var start = new ProcessStartInfo("dotnet") { RedirectStandardOutput = true };
        foreach (string argument in (string[])["msbuild", Project(), "-getItem:PackageReference", "-nologo"])
            start.ArgumentList.Add(argument);
        if (backend is not null)
            start.ArgumentList.Add($"-p:TorchBackend={backend}");
        using var process = Process.Start(start)!;
        string output = process.StandardOutput.ReadToEnd();
        process.WaitForExit();
        using var json = JsonDocument.Parse(output);
        string?[] packages = [.. json.RootElement.GetProperty("Items").GetProperty("PackageReference").EnumerateArray().Select(p => p.GetProperty("Identity").GetString())];
        Assert.Contains(taken, packages);
        Assert.DoesNotContain(left, packages);
        Assert.Contains("TorchSharp", packages);
    }

    [Fact]
    public void A_device_that_is_not_there_is_refused_and_the_choice_is_said()
    {
        Assert.Contains("--device", Assert.Throws<InputException>(() => TorchDevice.Choose("tpu")).Message);
        if (!TorchSharp.torch.cuda_is_available())
        {
            Assert.Contains("TorchBackend=cuda", Assert.Throws<InputException>(() => TorchDevice.Choose("cuda")).Message);
            Assert.StartsWith("device: CPU", TorchDevice.Choose("auto"));
        }
        Assert.StartsWith("device: CPU", TorchDevice.Choose("cpu"));
    }

    private static string Project()
    {
        string folder = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(folder, "Pcrl.sln")))
            folder = Path.GetDirectoryName(folder)!;
        return Path.Combine(folder, "src/Pcrl.Train/Pcrl.Train.csproj");
    }
}
