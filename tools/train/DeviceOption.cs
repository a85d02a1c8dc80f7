using System.CommandLine;
using Pcrl.Train.Torch;

namespace Pcrl.Tools;

/// <summary>The option <c>--device</c> of the commands that compute with torch.</summary>
internal static class DeviceOption
{
    public static Option<string> Option { get; } = new("--device") { Description = "auto, cpu or cuda", DefaultValueFactory = _ => "auto" };

    /// <summary>Takes the device and says so.</summary>
    public static void Choose(ParseResult parsed) => Console.Error.WriteLine(TorchDevice.Choose(parsed.GetValue(Option)!));
}
