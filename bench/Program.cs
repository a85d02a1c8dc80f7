using System.CommandLine;
using Pcrl.Bench;
using Pcrl.Tools;

var root = new RootCommand("Measures the parts of Pcrl. Tables go to standard output; every table names hardware, commit and seed.");
root.Subcommands.Add(KernelBench.Command());
root.Subcommands.Add(EncoderBench.Command());
root.Subcommands.Add(ThreadsBench.Command());
root.Subcommands.Add(PrecisionBench.Command());
root.Subcommands.Add(GpuBench.Command());
root.Subcommands.Add(DecodeBench.Command());
root.Subcommands.Add(StudyBench.Command());
return await ToolMain.RunAsync(root, args);
