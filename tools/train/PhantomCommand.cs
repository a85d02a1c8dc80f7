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
    private static readonly Option<int?> Count = new("--count") { Description = "Write this many, of this and the following seeds, into a folder" };
    private static readonly Option<string> Output = new("--output", "-o") { Description = "NIfTI file, .nii or .nii.gz; a folder where --count is given", Required = true };

    public static Command Create()
    {
        var command = new Command("phantom", "Write a synthetic head CT as NIfTI and print its findings") { Seed, Difficulty, Size, Count, Output };
        command.SetAction((parsed, cancellation) => Task.FromResult(Execute(parsed, cancellation)));
        return command;
    }

    private static int Execute(ParseResult parsed, CancellationToken cancellation)
    {
        if (parsed.GetValue(Size) is < 32 or > 1024)
            throw new InputException("--size", "must be between 32 and 1024");
        if (parsed.GetValue(Difficulty) is not (>= 0 and <= 1))
            throw new InputException("--difficulty", "must be between 0 and 1");
        if (parsed.GetValue(Count) is < 1 or > 10_000)
            throw new InputException("--count", "must be between 1 and 10000");
        var options = new PhantomOptions { ImageSize = parsed.GetValue(Size), Difficulty = parsed.GetValue(Difficulty) };
        string output = parsed.GetValue(Output)!;
        if (parsed.GetValue(Count) is not { } count)
        {
            Write(parsed.GetValue(Seed), options, output);
            return 0;
        }
        OutputFolder.Make(output);
        for (ulong seed = parsed.GetValue(Seed); seed < parsed.GetValue(Seed) + (ulong)count; seed++)
        {
            cancellation.ThrowIfCancellationRequested();
            Write(seed, options, Path.Combine(output, $"phantom-{seed}.nii.gz"));
        }
        return 0;
    }

    private static void Write(ulong seed, PhantomOptions options, string path)
    {
        var phantom = PhantomGenerator.Create(seed, options);
        PhantomFiles.WriteNifti(phantom, path);
        Console.WriteLine(phantom.Findings);
    }
}
