using System.CommandLine;
using System.Globalization;
using Pcrl.Train.Fitting;
using Pcrl.Train.Models;

namespace Pcrl.Tools;

/// <summary><c>params CONFIG</c>: what a configuration trains, counted on the model's outline, which takes no memory.</summary>
internal static class ParamsCommand
{
    private static readonly Argument<string> Config = new("CONFIG") { Description = "Configuration of the run" };

    public static Command Create()
    {
        var command = new Command("params", "Count the trainable parameters of a configuration, part by part, without allocating the model. " +
            "Single settings are overridden by --key=value") { Config };
        command.TreatUnmatchedTokensAsErrors = false; // they are the overrides
        command.SetAction(parsed =>
        {
            var config = RunConfig.Load(parsed.GetValue(Config)!, parsed.UnmatchedTokens);
            using var model = PcrlModel.Outline(config.Shape(config.Language.VocabSize));
            var counts = model.TrainedCounts(config.Loss);
            foreach (var (part, count) in counts.Append(("total", counts.Sum(c => c.Count))))
                Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{part,-24}{count,14:N0}"));
            return 0;
        });
        return command;
    }
}
