using System.CommandLine;
using Pcrl.Tools;

// The command of deployers: a study goes in, a draft report comes out.
return await ToolMain.RunAsync(
    new RootCommand("Draft reports of brain CT studies. Unverified AI output, not for diagnosis.") { ReportCommand.Create(), InspectCommand.Create() },
    args);
