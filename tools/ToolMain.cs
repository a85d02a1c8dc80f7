using System.CommandLine;
using System.CommandLine.Invocation;
using System.Text;
using Pcrl.Runtime;

namespace Pcrl.Tools;

/// <summary>How every tool runs its command line: what a user can mend is one line on stderr, Ctrl-C is a clean stop.</summary>
internal static class ToolMain
{
    /// <summary>Exit codes: 0 done, 1 the input is at fault, 130 interrupted; System.CommandLine's 1 for a wrong command line.</summary>
    public static async Task<int> RunAsync(RootCommand root, string[] args)
    {
        Console.OutputEncoding = new UTF8Encoding(false); // a terminal of another locale would get '?' for every Chinese character
        try
        {
            Offload(root);
            var parsed = root.Parse(args);
            if (parsed.CommandResult.Command == root && parsed.UnmatchedTokens is [var word, ..])
                return Fail(1, $"'{word}' is not a command; {root.Name} --help tells what is understood");
            if (parsed.Errors is [var error, ..])
            {
                // .NET's name of the type that was expected helps nobody.
                return Fail(1, error.Message.Split(" as expected type ")[0] + $"; {root.Name} --help tells what is understood");
            }
            return await parsed.InvokeAsync(new InvocationConfiguration
            {
                EnableDefaultExceptionHandler = false,
                ProcessTerminationTimeout = TimeSpan.FromSeconds(10), // without one, Ctrl-C ends the process at once and cancels nothing
            });
        }
        catch (InputException e)
        {
            return Fail(1, e.Message);
        }
        catch (OperationCanceledException)
        {
            return Fail(130, "interrupted");
        }
        catch (OutOfMemoryException)
        {
            return Fail(1, "not enough memory for this input");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException) // the latter where stdout is closed
        {
            return Fail(1, $"the output cannot be written ({e.Message})"); // all other files are the libraries' business
        }
        catch (Exception e)
        {
            // A defect of ours. Whoever runs the command in a clinic needs an ordinary failure, not an aborted process.
            return Fail(1, $"internal error, please report it: {e.GetType().Name}: {e.Message}");
        }
    }

    /// <summary>Has commands work on a thread of their own: System.CommandLine listens for Ctrl-C only once an action has given it its task.</summary>
    private static void Offload(Command command)
    {
        if (command.Action is AsynchronousCommandLineAction action)
            command.SetAction((parsed, cancellation) => Task.Run(() => action.InvokeAsync(parsed, cancellation), cancellation));
        foreach (var subcommand in command.Subcommands)
            Offload(subcommand);
    }

    private static int Fail(int code, string message)
    {
        // One line without surprises for the terminal, whatever the message holds: file names may contain line breaks and escapes.
        string line = string.Concat(message.ReplaceLineEndings(" ").Replace('\t', ' ').Select(c => char.IsControl(c) ? '?' : c));
        try
        {
            Console.Error.WriteLine($"{AppDomain.CurrentDomain.FriendlyName}: {line}");
        }
        catch (IOException)
        {
            // Nowhere to say it; the exit code remains.
        }
        return code;
    }
}
