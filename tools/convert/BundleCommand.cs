using System.CommandLine;
using Pcrl.Convert;
using Pcrl.Runtime.Bundles;
using Pcrl.Train.Checkpoints;

namespace Pcrl.Tools;

/// <summary><c>bundle</c>: a run folder becomes a bundle.</summary>
internal static class BundleCommand
{
    private static readonly Argument<string> Run = new("RUN") { Description = "Run folder of the trainer." };
    private static readonly Argument<string> Bundle = new("BUNDLE") { Description = "Folder of the bundle to write; an older one there is replaced." };
    private static readonly Option<GgufType> VisualType = new Option<GgufType>("--visual-type")
    {
        Description = "What the visual path is stored as", DefaultValueFactory = _ => GgufType.F32,
    }.AcceptOnlyFromAmong("F32", "F16", "BF16");

    public static Command Create()
    {
        var command = new Command("bundle", "Pack a trained run into a bundle and compare the runtime with the trained model")
        {
            Run, Bundle, ConversionCommandOptions.Type, VisualType, ConversionCommandOptions.Accept,
        };
        command.SetAction((parsed, cancellation) => Task.Run(() =>
        {
            var folder = new RunFolder(parsed.GetValue(Run)!);
            using var trained = folder.Load();
            var options = ConversionCommandOptions.Read(parsed) with { VisualType = parsed.GetValue(VisualType) };
            var figures = BundleConverter.Convert(trained, folder.ReadMetrics(), parsed.GetValue(Bundle)!, options, cancellation);
            Console.WriteLine(figures.ToJson().ToJsonString());
        }, cancellation));
        return command;
    }
}
