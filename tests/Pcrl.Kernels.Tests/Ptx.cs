using System.Diagnostics;
using System.Reflection;
using System.Text.RegularExpressions;
using ILGPU;
using ILGPU.Backends.EntryPoints;
using ILGPU.Backends.PTX;
using ILGPU.Runtime.Cuda;

namespace Pcrl.Kernels.Tests;

/// <summary>Kernels as text for a card that is not there, and NVIDIA's assembler where it is installed.</summary>
internal static partial class Ptx
{
    /// <summary>Compiles a kernel of ILGPU as it would be for a card.</summary>
    /// <param name="kernel">Its method.</param>
    /// <param name="grouped">Whether it asks for its groups itself.</param>
    /// <param name="major">Compute capability.</param>
    public static string Compile(MethodInfo kernel, bool grouped, int major)
    {
        using var context = Context.Create(builder => builder.Optimize(OptimizationLevel.O2)); // one backend per context
        var architecture = new CudaArchitecture(major, 0);
        using var backend = new PTXBackend(context, new CudaCapabilityContext(architecture), architecture, CudaInstructionSet.ISA_70, null!);
        var entry = grouped ? EntryPointDescription.FromExplicitlyGroupedKernel(kernel) : EntryPointDescription.FromImplicitlyGroupedKernel(kernel);
        return ((PTXCompiledKernel)backend.Compile(entry, default)).PTXAssembly;
    }

    /// <summary>The assembler, null where it is not installed.</summary>
    public static string? Assembler { get; } = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(Path.PathSeparator)
        .Append("/usr/local/cuda/bin").Select(folder => Path.Combine(folder, "ptxas")).FirstOrDefault(File.Exists);

    /// <summary>What the assembler says about a kernel: registers of a thread and bytes spilled to memory.</summary>
    public static (int Registers, int Spilled) Assemble(string ptx, string architecture)
    {
        string file = Path.GetTempFileName();
        try
        {
            File.WriteAllText(file, ptx);
            using var process = Process.Start(new ProcessStartInfo(Assembler!, ["-v", "-arch=" + architecture, "-o", "/dev/null", file]) { RedirectStandardError = true })!;
            string said = process.StandardError.ReadToEnd();
            process.WaitForExit();
            Assert.True(process.ExitCode == 0, said);
            return (int.Parse(Registers().Match(said).Groups[1].Value), Spills().Matches(said).Sum(m => int.Parse(m.Groups[1].Value)));
        }
        finally
        {
            File.Delete(file);
        }
    }

    [GeneratedRegex(@"Used (\d+) registers")]
    private static partial Regex Registers();

    [GeneratedRegex(@"(\d+) bytes spill stores")]
    private static partial Regex Spills();
}
