using System.CommandLine;
using System.Text.Json.Nodes;
using Pcrl.Convert;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Train.Checkpoints;

namespace Pcrl.Tools;

/// <summary><c>bundle</c>: a trained model becomes a bundle.</summary>
internal static class BundleCommand
{
    private static readonly Argument<string> Trained = new("RUN") { Description = "Run folder of the trainer, or the authors' .pth." };
    private static readonly Argument<string> Bundle = new("BUNDLE") { Description = "Folder of the bundle to write; an older one there is replaced." };
    private static readonly Option<string?> Llm = new("--llm") { Description = "Folder of the base LLM, where it is not in the run" };
    private static readonly Option<string?> Trunk = new("--trunk") { Description = "ResNet under torchvision's names, where it is not in the run; with --llm" };
    private static readonly Option<string?> Config = new("--config") { Description = "Configuration; with --llm [default: the run's own]" };
    private static readonly Option<GgufType> VisualType = new Option<GgufType>("--visual-type")
    {
        Description = "What the visual path is stored as", DefaultValueFactory = _ => GgufType.F32,
    }.AcceptOnlyFromAmong("F32", "F16", "BF16");

    /// <summary>What says how a model is put together from parts.</summary>
    private static readonly Option[] Parts = [Trunk, Config, ConversionCommandOptions.TrainedOn, ConversionCommandOptions.MergeOnto];

    public static Command Create()
    {
        var command = new Command("bundle", "Pack a trained model into a bundle and compare the runtime with it")
        {
            Trained, Bundle, Llm, Trunk, Config, ConversionCommandOptions.TrainedOn, ConversionCommandOptions.MergeOnto, ConversionCommandOptions.Type,
            VisualType, ConversionCommandOptions.Accept,
        };
        command.SetAction((parsed, cancellation) =>
        {
            Console.WriteLine(Run(parsed, cancellation).ToJson().ToJsonString());
            return Task.FromResult(0);
        });
        return command;
    }

    private static ParityFigures Run(ParseResult parsed, CancellationToken cancellation)
    {
        string trained = parsed.GetValue(Trained)!, bundle = parsed.GetValue(Bundle)!;
        var options = ConversionCommandOptions.Read(parsed) with { VisualType = parsed.GetValue(VisualType) };
        var folder = new RunFolder(trained);
        if (parsed.GetValue(Llm) is { } llm)
        {
            using var parts = ModelParts.Open(trained, parsed.GetValue(Config), llm, parsed.GetValue(Trunk));
            var provenance = File.Exists(folder.MetricsPath) ? folder.ReadMetrics() : new JsonObject { ["config"] = JsonNode.Parse(parts.Config.ToJson()) };
            provenance["parts"] = new JsonObject { ["trained"] = trained, ["llm"] = llm, ["trunk"] = parsed.GetValue(Trunk) };
            return BundleConverter.Convert(parts, provenance, bundle, options, cancellation);
        }
        if (Parts.FirstOrDefault(option => parsed.GetResult(option) is { Implicit: false }) is { } useless)
            throw new InputException(useless.Name, "counts only with --llm: a run folder brings its own parts");
        using var run = folder.Load();
        return BundleConverter.Convert(run, folder.ReadMetrics(), bundle, options, cancellation);
    }
}
