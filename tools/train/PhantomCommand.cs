using System.CommandLine;
using Pcrl.Runtime;
using Pcrl.Train.Data;

namespace Pcrl.Tools;

/// <summary><c>phantom</c>: writes a synthetic head CT for a look at it.</summary>
internal static class PhantomCommand
{
    private static readonly Option<ulong> Seed = new("--seed") { Description = "Which phantom", DefaultValueFactory = _ => 1 };
    private static readonly Option<float> Difficulty = new("--difficulty") { Description = "0 (easy) to 1 (subtle)", DefaultValueFactory = _ => 0.5f };
    private static readonly Option<int> Size = new("--size") { Description = "Rows and columns of a slice, 32 to 1024", DefaultValueFactory = _ => 256 };
    private static readonly Option<string> Output = new("--output", "-o") { Description = "NIfTI file, .nii or .nii.gz", Required = true };

    public static Command Create()
    {
        var command = new Command("phantom", "Write a synthetic head CT as NIfTI and print its findings") { Seed, Difficulty, Size, Output };
        command.SetAction((parsed, cancellation) => Task.Run(() => Execute(parsed), cancellation));
        return command;
    }

    private static int Execute(ParseResult parsed)
    {
        if (parsed.GetValue(Size) is < 32 or > 1024)
            throw new InputException("--size", "must be between 32 and 1024");
        if (parsed.GetValue(Difficulty) is not (>= 0 and <= 1))
            throw new InputException("--difficulty", "must be between 0 and 1");
        var phantom = PhantomGenerator.Create(parsed.GetValue(Seed),
            new PhantomOptions { ImageSize = parsed.GetValue(Size), Difficulty = parsed.GetValue(Difficulty) });
        PhantomFiles.WriteNifti(phantom, parsed.GetValue(Output)!);
        Console.WriteLine(phantom.Findings);
        return 0;
    }
}
