using System.CommandLine;
using Pcrl.Convert;

namespace Pcrl.Tools;

/// <summary><c>llm</c>: a LLaMA-3 folder becomes a GGUF.</summary>
internal static class LlmCommand
{
    private static readonly Argument<string> Model = new("MODEL") { Description = "Folder of a LLaMA-3 model in Hugging Face's or Meta's layout." };
    private static readonly Argument<string> Target = new("FILE") { Description = "GGUF to write; an older one there is replaced." };
    private static readonly Option<string?> Adapter = new("--adapter") { Description = "PEFT folder of a LoRA adapter to merge" };

    public static Command Create()
    {
        var command = new Command("llm", "Convert a LLaMA-3 model for llama.cpp and compare it with its checkpoint; a killed conversion goes on where it was")
        {
            Model, Target, Adapter, ConversionCommandOptions.TrainedOn, ConversionCommandOptions.MergeOnto, ConversionCommandOptions.Type, ConversionCommandOptions.Accept,
        };
        command.SetAction((parsed, cancellation) =>
        {
            using var model = LlmCheckpoint.Open(parsed.GetValue(Model)!);
            var adapter = parsed.GetValue(Adapter) is { } folder ? LoraAdapter.Open(folder) : null;
            var figures = BundleConverter.Convert(model, adapter, parsed.GetValue(Target)!, ConversionCommandOptions.Read(parsed), cancellation);
            Console.WriteLine(figures.ToJson().ToJsonString());
            return Task.FromResult(0);
        });
        return command;
    }
}
