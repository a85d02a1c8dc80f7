using System.CommandLine;
using System.Diagnostics;
using System.Globalization;
using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Clues;
using Pcrl.Train.Data;
using Pcrl.Train.Models.Sam;
using Pcrl.Train.Torch;
using static TorchSharp.torch;

namespace Pcrl.Tools;

/// <summary><c>segment</c>: what the masks of one slice take in time and memory at a published size, on random weights, before anybody has brought real ones.</summary>
internal static class SegmentCommand
{
    private static readonly Dictionary<string, SamConfig> Sizes = new() { ["base"] = SamConfig.Base, ["large"] = SamConfig.Large, ["huge"] = SamConfig.Huge };

    private static readonly Option<string> Size = new Option<string>("--size") { Description = "base (ViT-B), large (ViT-L) or huge (ViT-H)", DefaultValueFactory = _ => "huge" }
        .AcceptOnlyFromAmong([.. Sizes.Keys]);
    private static readonly Option<int> Points = new("--points") { Description = "Points per side of the grid", DefaultValueFactory = _ => new SamGeneratorConfig().PointsPerSide };
    private static readonly Option<int> Threads = new("--threads") { Description = "Threads of torch's operators", DefaultValueFactory = _ => Environment.ProcessorCount };

    public static Command Create()
    {
        var command = new Command("segment", "Make the masks of one phantom slice with random weights of a published size, and print time and memory") { Size, Points, Threads, DeviceOption.Option };
        command.SetAction((parsed, cancellation) => Task.FromResult(Run(parsed, cancellation)));
        return command;
    }

    private static int Run(ParseResult parsed, CancellationToken cancellation)
    {
        foreach (var option in (Option<int>[])[Points, Threads])
        {
            if (parsed.GetValue(option) is < 1 or > 256)
                throw new InputException(option.Name, "must be between 1 and 256");
        }
        DeviceOption.Choose(parsed);
        TorchDevice.Configure(parsed.GetValue(Threads), seed: 1);
        const int side = 512;
        byte[] slice = [.. PhantomClueStudy.Create(1, new PhantomOptions(), side).Study.Slice(12).ToArray().SelectMany(v => new[] { v, v, v })];
        using var sam = new SamModel(Sizes[parsed.GetValue(Size)!]);
        sam.eval();
        Print($"{sam.parameters().Sum(p => p.numel()):N0} parameters, {sam.Config.ImageSize}² pixels; peak memory {PeakMemory.Gibibytes} GiB");

        var clock = Stopwatch.StartNew();
        using (no_grad())
        using (var embedding = new SamMaskGenerator(sam, new SamGeneratorConfig()).Embed(slice, side, side).Embedding)
            Weights.Floats(embedding); // once it is read a card has finished too
        Print($"image encoder {clock.Elapsed.TotalSeconds:0.0} s; peak memory {PeakMemory.Gibibytes} GiB");
        clock.Restart();
        // Random weights promise nothing of their masks: all are enlarged and judged by their stability, as none would be otherwise.
        var generator = new SamMaskGenerator(sam, new SamGeneratorConfig { PointsPerSide = parsed.GetValue(Points), PredIouThresh = 0, MinMaskRegionArea = 200 });
        int masks = generator.Generate(slice, side, side, cancellation).Count;
        Print($"whole slice, {parsed.GetValue(Points)}² points, {masks} masks left: {clock.Elapsed.TotalSeconds:0.0} s; peak memory {PeakMemory.Gibibytes} GiB");
        return 0;
    }

    private static void Print(FormattableString line) => Console.WriteLine(line.ToString(CultureInfo.InvariantCulture));
}
