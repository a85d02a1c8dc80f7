using System.CommandLine;
using System.Globalization;
using Pcrl.Runtime;
using Pcrl.Train.Fitting;

namespace Pcrl.Tools;

/// <summary><c>profile CONFIG</c>: what the joint fit costs beside the bare modules, and its memory.</summary>
internal static class ProfileCommand
{
    private static readonly Argument<string> Config = new("CONFIG") { Description = "Configuration whose sizes and losses are measured" };
    private static readonly Option<int> Steps = new("--steps") { Description = "Steps of the fit", DefaultValueFactory = _ => 2000 };

    public static Command Create()
    {
        var command = new Command("profile", "Measure the joint fit against the bare modules, step by step in turns, and print tensors and memory while it runs. " +
            "Single settings are overridden by --key=value")
        {
            Config, Steps, DeviceOption.Option,
        };
        command.TreatUnmatchedTokensAsErrors = false; // they are the overrides
        command.SetAction((parsed, cancellation) => Task.FromResult(Run(parsed, cancellation)));
        return command;
    }

    private static int Run(ParseResult parsed, CancellationToken cancellation)
    {
        int steps = parsed.GetValue(Steps);
        if (steps is < 50 or > 1_000_000)
            throw new InputException("--steps", "must be between 50 and 1000000");
        var config = RunConfig.Load(parsed.GetValue(Config)!, parsed.UnmatchedTokens);
        DeviceOption.Choose(parsed);
        var profile = FitProfile.Measure(config, steps, new ConsoleProgress(), cancellation);
        void Line(FormattableString text) => Console.WriteLine(text.ToString(CultureInfo.InvariantCulture));
        Line($"fit {1 / profile.Fit:0.00} steps/s, bare modules {1 / profile.Bare:0.00} steps/s, ratio {profile.Fit / profile.Bare:0.000} (medians, in turns, one thread)");
        foreach (var (step, tensors, megabytes) in profile.Memory)
            Line($"step {step}: {tensors} tensors, {megabytes} MB");
        return 0;
    }
}
