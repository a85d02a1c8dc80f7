using System.Diagnostics;
using System.Reflection;
using System.Runtime.InteropServices;
using Pcrl.Kernels;

namespace Pcrl.Bench;

/// <summary>Under what conditions a table was measured.</summary>
internal sealed record Conditions(string Hardware, string Device, string Runtime, string Commit, int Seed)
{
    public static Conditions Of(Device device, int seed) => new(Processor(), device.Choice, RuntimeInformation.FrameworkDescription, CurrentCommit(), seed);

    public string Markdown => $"Hardware: {Hardware}  \nDevice: {Device}  \nRuntime: {Runtime}  \nCommit: {Commit}, seed {Seed}\n";

    private static string Processor()
    {
        string name = "unknown processor";
        if (File.Exists("/proc/cpuinfo"))
            name = File.ReadLines("/proc/cpuinfo").FirstOrDefault(l => l.StartsWith("model name", StringComparison.Ordinal))?.Split(':')[1].Trim() ?? name;
        return $"{name}, {Environment.ProcessorCount} cores, {GC.GetGCMemoryInfo().TotalAvailableMemoryBytes >> 30} GiB";
    }

    /// <summary>The commit the working tree stands at, with a mark if it was changed since.</summary>
    private static string CurrentCommit() => Git("rev-parse --short HEAD") is { Length: > 0 } commit
        ? commit + (Git("status --porcelain --untracked-files=no") is { Length: > 0 } ? " with changes" : "")
        : Assembly.GetExecutingAssembly().GetCustomAttribute<AssemblyInformationalVersionAttribute>()?.InformationalVersion ?? "unknown";

    private static string Git(string arguments)
    {
        try
        {
            using var git = Process.Start(new ProcessStartInfo("git", arguments) { RedirectStandardOutput = true, RedirectStandardError = true })!;
            string output = git.StandardOutput.ReadToEnd().Trim();
            git.WaitForExit();
            return git.ExitCode == 0 ? output : "";
        }
        catch (System.ComponentModel.Win32Exception)
        {
            return "";
        }
    }
}
