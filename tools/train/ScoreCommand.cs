using System.CommandLine;
using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Fitting;
using Pcrl.Train.Torch;

namespace Pcrl.Tools;

/// <summary><c>score RUN</c>: how right a trained run's greedy reports are on phantoms it has not seen.</summary>
internal static class ScoreCommand
{
    private static readonly Argument<string> Run = new("RUN") { Description = "Run folder" };
    private static readonly Option<int> Phantoms = new("--phantoms") { Description = "Number of phantoms", DefaultValueFactory = _ => 300 };
    private static readonly Option<ulong?> Seed = new("--seed") { Description = "Seed of the first phantom [default: the run's held-out seed]" };
    private static readonly Option<float?> Difficulty = new("--difficulty") { Description = "0 (easy) to 1 (subtle) [default: the run's]" };
    private static readonly Option<int> Show = new("--show") { Description = "Print this many reports beside the truth" };

    public static Command Create()
    {
        var command = new Command("score", "Score a run's greedy reports on held-out phantoms, beside one report for all, whose facts are the commonest among the references") { Run, Phantoms, Seed, Difficulty, Show, DeviceOption.Option };
        command.SetAction((parsed, cancellation) => Task.FromResult(Execute(parsed, cancellation)));
        return command;
    }

    private static int Execute(ParseResult parsed, CancellationToken cancellation)
    {
        int count = parsed.GetValue(Phantoms);
        if (count is < 1 or > 100_000)
            throw new InputException("--phantoms", "must be between 1 and 100000");
        if (parsed.GetValue(Difficulty) is not (null or (>= 0 and <= 1)))
            throw new InputException("--difficulty", "must be between 0 and 1");
        InputException.ThrowIfMissing(parsed.GetValue(Run));
        DeviceOption.Choose(parsed);
        using var run = new RunFolder(parsed.GetValue(Run)!).Load();
        TorchDevice.Configure(run.Config.Threads, run.Config.Seed);
        var score = HeldOutScore.Measure(run, count, parsed.GetValue(Seed) ?? run.Config.Phantoms.HeldOutSeed,
            parsed.GetValue(Difficulty) ?? run.Config.Phantoms.Difficulty, new ConsoleProgress(), cancellation);
        foreach (var (reference, generated) in score.Reports.Take(parsed.GetValue(Show)))
            Console.WriteLine($"truth: {reference}\nmodel: {generated}\n");
        Console.Write(score.Model.Table(score.Baseline));
        return 0;
    }
}
