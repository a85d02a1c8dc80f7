using System.CommandLine;
using System.Globalization;
using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Fitting;

namespace Pcrl.Tools;

/// <summary><c>cross-validate</c>: how well the reports of <c>mini --ct-ich</c> tell blood on real scans that were held out.</summary>
internal static class CrossValidateCommand
{
    private static readonly Option<string> Config = new("--config") { Description = "Configuration of the run", DefaultValueFactory = _ => "configs/mini.json" };
    private static readonly Option<string> Out = new("--out") { Description = "Run folder; shares what comes before the scans with a mini run with scans there", DefaultValueFactory = _ => "runs/mini" };
    private static readonly Option<string> CtIch = new("--ct-ich") { Description = "Folder of the CT-ICH scans", Required = true };
    private static readonly Option<int> Folds = new("--folds") { Description = "Parts by person", DefaultValueFactory = _ => 5 };
    private static readonly Option<bool> Show = new("--show") { Description = "Print every scan with its report" };

    public static Command Create()
    {
        var command = new Command("cross-validate", "Train on all but one part of the CT-ICH scans, report on that part, for every part: AUC and balanced accuracy of " +
            "what the reports say of haemorrhage. Single settings are overridden by --key=value") { Config, Out, CtIch, Folds, Show, DeviceOption.Option };
        command.TreatUnmatchedTokensAsErrors = false; // they are the overrides
        command.SetAction((parsed, cancellation) => Task.FromResult(Run(parsed, cancellation)));
        return command;
    }

    private static int Run(ParseResult parsed, CancellationToken cancellation)
    {
        int folds = parsed.GetValue(Folds);
        if (folds is < 2 or > 20)
            throw new InputException("--folds", "must be between 2 and 20");
        var config = RunConfig.Load(parsed.GetValue(Config)!, parsed.UnmatchedTokens);
        DeviceOption.Choose(parsed);
        var cases = CrossValidation.Run(
            config, new RunFolder(parsed.GetValue(Out)!), parsed.GetValue(CtIch)!, folds, new Lines(), new ConsoleProgress(), cancellation);
        if (parsed.GetValue(Show))
        {
            foreach (var c in cases.OrderByDescending(c => c.Probability))
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture,
                    $"{c.Patient} fold {c.Fold + 1} {(c.Bleeding ? "blood" : "none "),5} P {c.Probability:0.0000}  {c.Report}"));
        }
        Console.WriteLine($"pooled: {HaemorrhageScore.Of(cases)}");
        return 0;
    }

    private sealed class Lines : IProgress<string>
    {
        public void Report(string value) => Console.WriteLine(value);
    }
}
