using System.CommandLine;
using Pcrl.Tools;

// Checkpoint → bundle.
var root = new RootCommand("Packs trained models for the runtime and holds what it wrote against them.")
{
    BundleCommand.Create(), LlmCommand.Create(), PhrasesCommand.Create(),
};
return await ToolMain.RunAsync(root, args);
