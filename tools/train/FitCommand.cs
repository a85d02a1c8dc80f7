using System.CommandLine;
using System.Reflection;
using System.Text.Json.Nodes;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Fitting;

namespace Pcrl.Tools;

/// <summary><c>fit CONFIG</c>: the joint fit of a configuration.</summary>
internal static class FitCommand
{
    private static readonly Argument<string> Config = new("CONFIG") { Description = "Configuration of the run" };
    private static readonly Option<string?> Out = new("--out") { Description = "Run folder [default: runs/NAME]" };
    private static readonly Option<bool> Resume = new("--resume") { Description = "Go on from the checkpoint of a fit that was interrupted" };

    public static Command Create()
    {
        var command = new Command("fit", "Fit a model to reports and clues; trunk and LLM that are not brought along are taught on phantoms first. " +
            "Single settings are overridden by --key=value, as in --joint_fit.steps=100") { Config, Out, Resume, DeviceOption.Option };
        command.TreatUnmatchedTokensAsErrors = false; // they are the overrides
        command.SetAction((parsed, cancellation) =>
        {
            var config = RunConfig.Load(parsed.GetValue(Config)!, parsed.UnmatchedTokens);
            DeviceOption.Choose(parsed);
            Fit(config, new RunFolder(parsed.GetValue(Out) ?? Path.Combine("runs", config.Name)), null, parsed.GetValue(Resume), cancellation);
            return Task.FromResult(0);
        });
        return command;
    }

    /// <summary>Runs and prints the scores.</summary>
    public static void Fit(RunConfig config, RunFolder folder, string? ctIch, bool resume, CancellationToken cancellation)
    {
        var provenance = new JsonObject
        {
            ["program"] = typeof(RunFolder).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion,
            ["config"] = JsonNode.Parse(config.ToJson()),
        };
        var score = TrainingPipeline.Run(config, folder, ctIch, resume, provenance, new ConsoleProgress(), cancellation);
        Console.Write(score.Model.Table(score.Baseline));
        Console.Write(new AblationTable([.. score.Copying, new AblationRow(config.Name, config.Description, [score.Scores])]).ToMarkdown());
        Console.WriteLine(score.Leakage);
        Console.WriteLine($"run folder: {folder.Path}");
    }
}
