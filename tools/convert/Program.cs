using System.CommandLine;
using Pcrl.Convert;
using Pcrl.Tools;
using Pcrl.Train.Checkpoints;

// Checkpoint → bundle.
var run = new Argument<string>("RUN") { Description = "Run folder of the trainer." };
var bundle = new Argument<string>("BUNDLE") { Description = "Folder of the bundle to write; an older one there is replaced." };
var root = new RootCommand("Packs a trained run into a bundle and compares the runtime with the trained model.") { run, bundle };
root.SetAction((arguments, cancellation) => Task.Run(() =>
{
    var folder = new RunFolder(arguments.GetValue(run)!);
    using var trained = folder.Load();
    var figures = BundleConverter.Convert(trained, folder.ReadMetrics(), arguments.GetValue(bundle)!, Console.Error.WriteLine, cancellation);
    Console.WriteLine(figures.ToJson().ToJsonString());
}, cancellation));
root.Subcommands.Add(PhrasesCommand.Create());
return await ToolMain.RunAsync(root, args);
