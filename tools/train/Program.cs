using System.CommandLine;
using Pcrl.Tools;

return await ToolMain.RunAsync(new RootCommand("Trains, evaluates and ablates Pcrl's models.")
{
    MiniCommand.Create(), FitCommand.Create(), AblateCommand.Create(), CrossValidateCommand.Create(), ProfileCommand.Create(), ScoreCommand.Create(),
    PhantomCommand.Create(), EvaluateCommand.Create(), PrepareCommand.Create(), SegmentCommand.Create(), ParamsCommand.Create(), StepCommand.Create(),
}, args);
