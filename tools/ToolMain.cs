using System.CommandLine;
using Pcrl.Runtime;

namespace Pcrl.Tools;

/// <summary>How every tool runs its command line: what a user can mend is one line on stderr, Ctrl-C is a clean stop.</summary>
internal static class ToolMain
{
    /// <summary>Exit codes: 0 done, 1 the input is at fault, 130 interrupted; System.CommandLine's 1 for a wrong command line.</summary>
    public static async Task<int> RunAsync(RootCommand root, string[] args)
    {
        try
        {
            return await root.Parse(args).InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
        }
        catch (InputException e)
        {
            return Fail(1, e.Message);
        }
        catch (OperationCanceledException)
        {
            return Fail(130, "interrupted, nothing half-written was left");
        }
        catch (OutOfMemoryException)
        {
            return Fail(1, "not enough memory for this input");
        }
    }

    private static int Fail(int code, string message)
    {
        // One line, whatever the message holds: file names may contain line breaks.
        Console.Error.WriteLine($"{AppDomain.CurrentDomain.FriendlyName}: {message.ReplaceLineEndings(" ")}");
        return code;
    }
}
