using System.CommandLine;
using System.Text;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;

namespace Pcrl.Tools;

/// <summary><c>phrases FINDINGS BUNDLE</c>: gives an existing bundle the phrases from which its drafter learns.</summary>
internal static class PhrasesCommand
{
    public static Command Create()
    {
        var findings = new Argument<string>("FINDINGS") { Description = "Text file of findings, one a line; they become part of the bundle." };
        var bundle = new Argument<string>("BUNDLE") { Description = "Folder of the bundle." };
        var command = new Command("phrases", "Add report language to a bundle, for faster decoding.") { findings, bundle };
        command.SetAction((arguments, cancellation) =>
        {
            string source = arguments.GetValue(findings)!, folder = arguments.GetValue(bundle)!;
            string text;
            try
            {
                text = new UTF8Encoding(false, throwOnInvalidBytes: true).GetString(File.ReadAllBytes(source));
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                throw InputException.Unreadable(source, e);
            }
            catch (ArgumentException e)
            {
                throw new InputException(source, "is not UTF-8", e);
            }
            if (string.IsNullOrWhiteSpace(text))
                throw new InputException(source, "holds no findings");
            Bundle.Open(folder, cancellation).ReplacePhrases(text);
            return Task.FromResult(0);
        });
        return command;
    }
}
