using System.CommandLine;
using System.Text;
using Pcrl.Runtime;
using Pcrl.Train.Data;
using Pcrl.Train.Fitting;

namespace Pcrl.Tools;

/// <summary><c>findings</c>: the training findings of a configuration, made again from its seeds, as <c>mini</c> writes them into its run.</summary>
internal static class FindingsCommand
{
    private static readonly Option<string> Config = new("--config") { Description = "Configuration of the run", DefaultValueFactory = _ => "configs/mini.json" };
    private static readonly Option<string> Output = new("--output", "-o") { Description = "Text file, one synthetic finding a line", Required = true };

    public static Command Create()
    {
        var command = new Command("findings", "Write the synthetic findings that a run learns from, for a bundle's phrases") { Config, Output };
        command.SetAction((parsed, cancellation) => Task.Run(() => Execute(parsed, cancellation), cancellation));
        return command;
    }

    private static int Execute(ParseResult parsed, CancellationToken cancellation)
    {
        var config = RunConfig.Load(parsed.GetValue(Config)!, []);
        var phantoms = config.Phantoms;
        var options = new PhantomOptions { ImageSize = phantoms.ImageSize, Difficulty = phantoms.Difficulty };
        string path = parsed.GetValue(Output)!;
        AtomicFile.CheckTarget(path);
        var lines = new List<string>();
        for (int i = 0; i < Math.Min(MiniTraining.PhraseStudies, phantoms.Training); i++)
        {
            cancellation.ThrowIfCancellationRequested();
            lines.AddRange(TrainingStudy.FromPhantom(phantoms.TrainingSeed + (ulong)i, options, config.Visual.ImageSize, phantoms.Wordings).Findings);
        }
        AtomicFile.Write(path, stream => stream.Write(Encoding.UTF8.GetBytes(string.Join('\n', lines) + "\n")));
        return 0;
    }
}
