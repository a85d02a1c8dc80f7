using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using Pcrl.Runtime;
using Pcrl.Train.Fitting;
using Pcrl.Train.Losses;
using Pcrl.Train.Models;
using Pcrl.Train.Quantisation;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Tools;

/// <summary><c>step CONFIG</c>: what one joint step takes in time and memory, on random weights and data, before anybody has brought 8B of either.</summary>
internal static class StepCommand
{
    private const int Slices = 24, HeadTokens = 6, TailTokens = 40;

    private static readonly Argument<string> Config = new("CONFIG") { Description = "Configuration of the run" };
    private static readonly Option<int> Steps = Count("--steps", "Steps to take", 1);
    private static readonly Option<int> Batch = Count("--batch", "Studies of a step", 4);
    private static readonly Option<int> ReportTokens = Count("--report-tokens", "Tokens that the LLM reads of a study: prompt, visual tokens and findings", 224);
    private static readonly Option<int> Entities = Count("--entity-slices", "Slices of a study that have an entity and a mask", 8);
    private static readonly Option<int> EntityTokens = Count("--entity-tokens", "Tokens of an entity's text", 64);
    private static readonly Option<int> ThemeTokens = Count("--theme-tokens", "Tokens of a study's findings as a clue", 190);

    private static Option<int> Count(string name, string description, int value) => new(name) { Description = description, DefaultValueFactory = _ => value };

    public static Command Create()
    {
        var command = new Command("step", "Take joint steps on random weights and data of a configuration's size, and print time, memory and losses. " +
            "Single settings are overridden by --key=value") { Config, Steps, Batch, ReportTokens, Entities, EntityTokens, ThemeTokens, DeviceOption.Option };
        command.TreatUnmatchedTokensAsErrors = false; // they are the overrides
        command.SetAction((parsed, cancellation) => Task.FromResult(Run(parsed, cancellation)));
        return command;
    }

    private static int Run(ParseResult parsed, CancellationToken cancellation)
    {
        var config = RunConfig.Load(parsed.GetValue(Config)!, parsed.UnmatchedTokens);
        foreach (var option in (Option<int>[])[Steps, Batch, ReportTokens, Entities, EntityTokens, ThemeTokens])
        {
            if (parsed.GetValue(option) is < 1 or > 100_000)
                throw new InputException(option.Name, "must be between 1 and 100000");
        }
        var shape = config.Shape(config.Language.VocabSize);
        int findings = parsed.GetValue(ReportTokens) + 1 - HeadTokens - TailTokens - shape.Visual.TokenCount(Slices); // nothing is read behind the last
        if (findings < 1)
            throw new InputException("--report-tokens", "leaves no room for findings behind prompt and visual tokens");
        if (parsed.GetValue(Entities) > Slices)
            throw new InputException("--entity-slices", $"is more than the {Slices} slices of a study");

        DeviceOption.Choose(parsed);
        TorchDevice.Configure(config.Threads, config.Seed);
        var random = new Random(config.Seed);
        var clock = Stopwatch.StartNew();
        using var model = new PcrlModel(shape);
        model.Language.RandomiseBase(config.Seed);
        var trained = model.Train(config.Loss).Select(p => p.Value).ToList();
        Print($"{trained.Sum(p => p.numel()):N0} trainable parameters, LLM in {shape.Base}, computed in {shape.Base.ComputeType()}, {config.Threads} threads");
        Print($"weights made in {clock.Elapsed.TotalSeconds:0.0} s");

        int[] Tokens(int count) => [.. Enumerable.Range(0, count).Select(_ => random.Next(shape.Language.VocabSize))];
        float[] Mask() => [.. Enumerable.Range(0, shape.Visual.Grid * shape.Visual.Grid).Select(_ => (float)random.Next(2))];
        var objective = new JointObjective(new Prompt(Tokens(HeadTokens), Tokens(TailTokens)), config.Loss);
        using var optimizer = optim.AdamW(trained, config.JointFit.LearningRate, weight_decay: config.JointFit.WeightDecay);
        for (int step = 1; step <= parsed.GetValue(Steps); step++)
        {
            cancellation.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            int channels = shape.Visual.FeatureChannels, rows = parsed.GetValue(Batch) * Slices;
            var features = new SliceFeatures(rand(rows, channels), rand(rows, channels, shape.Visual.Grid, shape.Visual.Grid));
            var batch = Enumerable.Range(0, parsed.GetValue(Batch)).Select(_ => new JointTarget(Tokens(findings), Tokens(parsed.GetValue(ThemeTokens)),
                [.. Enumerable.Range(0, parsed.GetValue(Entities)).Select(slice => new SliceTarget(slice, Tokens(parsed.GetValue(EntityTokens)), Mask()))])).ToList();

            clock.Restart();
            var (total, parts) = objective.Loss(model, features, batch);
            var forward = clock.Elapsed;
            optimizer.zero_grad();
            total.backward();
            var backward = clock.Elapsed - forward;
            double norm = nn.utils.clip_grad_norm_(trained, config.JointFit.ClipNorm);
            optimizer.step();
            var all = clock.Elapsed;
            Print($"step {step}: report {parts.Report:0.0000}, segmentation {parts.Segmentation:0.0000}, entity {parts.Entity:0.0000}, theme {parts.Theme:0.0000}, gradient {norm:0.000}");
            Print($"step {step}: {all.TotalSeconds:0.0} s (forward {forward.TotalSeconds:0.0}, backward {backward.TotalSeconds:0.0}), peak memory {PeakMemory.Gibibytes} GiB, {Tensor.TotalCount} tensors");
        }
        return 0;
    }

    private static void Print(FormattableString line) => Console.WriteLine(line.ToString(CultureInfo.InvariantCulture));
}
