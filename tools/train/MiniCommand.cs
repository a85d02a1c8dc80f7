using System.CommandLine;
using Pcrl.Convert;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Fitting;

namespace Pcrl.Tools;

/// <summary><c>mini</c>: makes the small model from nothing.</summary>
internal static class MiniCommand
{
    private static readonly Option<string> Config = new("--config") { Description = "Configuration of the run", DefaultValueFactory = _ => "configs/mini.json" };
    private static readonly Option<string> Out = new("--out") { Description = "Run folder; a run that was interrupted there goes on", DefaultValueFactory = _ => "runs/mini" };
    private static readonly Option<string?> Bundle = new("--bundle") { Description = "Bundle to write at the end [default: bundle in the run folder]" };
    private static readonly Option<string?> CtIch = new("--ct-ich") { Description = "Folder of the CT-ICH scans: they join the training with texts derived from their haemorrhage labels" };

    public static Command Create()
    {
        var command = new Command("mini", "Make the small model from nothing: phantoms, trunk, LLM, branches and adapters, score. " +
            "Single settings are overridden by --key=value, as in --trunk_fit.steps=100") { Config, Out, Bundle, CtIch, DeviceOption.Option };
        command.TreatUnmatchedTokensAsErrors = false; // they are the overrides
        command.SetAction((parsed, cancellation) => Task.FromResult(Run(parsed, cancellation)));
        return command;
    }

    private static int Run(ParseResult parsed, CancellationToken cancellation)
    {
        var config = RunConfig.Load(parsed.GetValue(Config)!, parsed.UnmatchedTokens);
        var folder = new RunFolder(parsed.GetValue(Out)!);
        DeviceOption.Choose(parsed);
        FitCommand.Fit(config, folder, parsed.GetValue(CtIch), resume: true, cancellation);

        string bundle = parsed.GetValue(Bundle) ?? Path.Combine(folder.Path, "bundle");
        using var run = folder.Load();
        var parity = BundleConverter.Convert(run, folder.ReadMetrics(), bundle, new ConversionOptions { Say = Console.Error.WriteLine }, cancellation);
        Console.WriteLine($"bundle: {bundle}, parity with the trained model {parity.ToJson().ToJsonString()}");
        return 0;
    }
}
