using System.Diagnostics;
using System.Runtime.InteropServices;

namespace Pcrl.EndToEnd.Tests;

/// <summary>Runs the built <c>pcrl</c> as a user would: another process, its exit code, its two streams.</summary>
internal sealed partial record PcrlProcess(int ExitCode, string Output, string Error)
{
    private static readonly TimeSpan Patience = TimeSpan.FromMinutes(2);

    /// <summary>The built <c>pcrl-convert</c>.</summary>
    public static string ConvertPath { get; } = PathOf("pcrl-convert");

    public static Process Start(params string[] arguments) => StartTool("pcrl", arguments);

    public static Process StartConvert(params string[] arguments) => StartTool("pcrl-convert", arguments);

    /// <summary>Starts one of the repository's commands.</summary>
    public static Process StartTool(string tool, params string[] arguments) =>
        Process.Start(new ProcessStartInfo("dotnet", [PathOf(tool), .. arguments]) { RedirectStandardOutput = true, RedirectStandardError = true })!;

    /// <summary>
    /// Starts one so that Ctrl-C reaches it: what runs in the background has it ignored, and so have its children, if nobody says otherwise.
    /// </summary>
    public static Process StartInterruptible(string tool, params string[] arguments) =>
        Process.Start(new ProcessStartInfo("env", ["--default-signal=INT", "dotnet", PathOf(tool), .. arguments]) { RedirectStandardOutput = true, RedirectStandardError = true })!;

    /// <summary>Sends a signal: 2 as Ctrl-C does, 9 to kill.</summary>
    public static void Signal(Process process, int signal) => Kill(process.Id, signal);

    [LibraryImport("libc", EntryPoint = "kill")]
    private static partial int Kill(int process, int signal);

    public static string PathOf(string tool) => Path.Combine(AppContext.BaseDirectory, tool + ".dll");

    public static PcrlProcess Convert(params string[] arguments) => RunTool("pcrl-convert", arguments);

    public static PcrlProcess RunTool(string tool, params string[] arguments)
    {
        using var process = StartTool(tool, arguments);
        return Finish(process);
    }

    public static PcrlProcess Run(params string[] arguments)
    {
        using var process = Start(arguments);
        return Finish(process);
    }

    /// <summary>Waits for the end, two minutes if nothing else is said.</summary>
    public static PcrlProcess Finish(Process process, TimeSpan? patience = null)
    {
        var output = process.StandardOutput.ReadToEndAsync();
        var error = process.StandardError.ReadToEndAsync();
        Assert.True(process.WaitForExit(patience ?? Patience), "the command did not end");
        return new PcrlProcess(process.ExitCode, output.Result, error.Result);
    }

    /// <summary>Whether a program of the system ends well.</summary>
    public static bool Ends(string program, params string[] arguments)
    {
        using var process = Process.Start(new ProcessStartInfo(program, arguments) { RedirectStandardError = true })!;
        process.WaitForExit();
        return process.ExitCode == 0;
    }

    /// <summary>Exit code 1 and exactly one line on stderr, which contains <paramref name="parts"/>; nothing on stdout.</summary>
    public void AssertOneLineError(params string[] parts)
    {
        Assert.Equal("", Output);
        AssertFailure(parts);
    }

    /// <summary>The same, whatever was printed before.</summary>
    public void AssertFailure(params string[] parts)
    {
        Assert.Equal(1, ExitCode);
        string line = Assert.Single(Error.Split('\n', StringSplitOptions.RemoveEmptyEntries));
        Assert.All(parts, part => Assert.Contains(part, line));
    }
}
