using System.CommandLine;
using Pcrl.Runtime;
using Pcrl.Train.Fitting;

namespace Pcrl.Tools;

/// <summary><c>ablate</c>: the paper's Table 2 on phantoms.</summary>
internal static class AblateCommand
{
    private static readonly string[] Rows = ["baseline", "a", "b", "c", "d", "e", "ours"];

    private static readonly Option<string> Configs = new("--configs") { Description = "Folder with a configuration for each row", DefaultValueFactory = _ => "configs/ablation" };
    private static readonly Option<string> Which = new("--rows") { Description = "Rows, comma-separated", DefaultValueFactory = _ => string.Join(',', Rows) };
    private static readonly Option<int> Seeds = new("--seeds") { Description = "Seeds of every row", DefaultValueFactory = _ => 3 };
    private static readonly Option<int> First = new("--first-seed") { Description = "Seed that the first fit of every row has; the others count on", DefaultValueFactory = _ => 1 };
    private static readonly Option<string> Out = new("--out") { Description = "Folder for base model, fits and table; finished fits there are not repeated", DefaultValueFactory = _ => "runs/ablation" };

    public static Command Create()
    {
        var command = new Command("ablate", "Fit every row of the paper's Table 2 on phantoms and print the table. Single settings of all rows are overridden by --key=value")
        {
            Configs, Which, Seeds, First, Out, DeviceOption.Option,
        };
        command.TreatUnmatchedTokensAsErrors = false; // they are the overrides
        command.SetAction((parsed, cancellation) => Task.FromResult(Run(parsed, cancellation)));
        return command;
    }

    private static int Run(ParseResult parsed, CancellationToken cancellation)
    {
        if (parsed.GetValue(Seeds) is < 1 or > 100)
            throw new InputException("--seeds", "must be between 1 and 100");
        if (parsed.GetValue(First) is < 0 or > 1_000_000)
            throw new InputException("--first-seed", "must be between 0 and 1000000");
        RunConfig[] rows = [.. parsed.GetValue(Which)!.Split(',')
            .Select(row => RunConfig.Load(Path.Combine(parsed.GetValue(Configs)!, row.Trim() + ".json"), parsed.UnmatchedTokens))];
        DeviceOption.Choose(parsed);
        string folder = parsed.GetValue(Out)!;
        var table = new Ablation(rows, Enumerable.Range(parsed.GetValue(First), parsed.GetValue(Seeds)), folder).Run(t => Console.Error.WriteLine(t.ToMarkdown()), new ConsoleProgress(), cancellation);
        Console.Write(table.ToMarkdown());
        Console.WriteLine($"table: {Path.Combine(folder, "table.md")}");
        return 0;
    }
}
