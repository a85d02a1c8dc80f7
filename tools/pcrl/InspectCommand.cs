using System.CommandLine;
using Pcrl.Runtime;
using Pcrl.Runtime.Studies;

namespace Pcrl.Tools;

/// <summary><c>pcrl inspect STUDY -o sheet.png</c>: which 24 slices the model would see, and why.</summary>
internal static class InspectCommand
{
    public static Command Create()
    {
        var study = StudyOptions.Study();
        var window = StudyOptions.Window();
        var output = new Option<string?>("--output", "-o") { Description = "Write the slices as a contact sheet (PNG)." };
        var command = new Command("inspect", "Show which slices of a study are chosen, and why.") { study, window, output };
        command.SetAction((arguments, cancellation) =>
        {
            var windowed = WindowChoice.Parse(arguments.GetValue(window)!);
            string? path = arguments.GetValue(output);
            if (path is not null)
                AtomicFile.CheckTarget(path, arguments.GetValue(study)!);
            var read = StudyReader.Read(arguments.GetValue(study)!, cancellation);
            var selection = SliceSelector.Select(read);
            Console.WriteLine($"{read.Format}, {read.Slices.Count} slices, {read.SetAside.Count} files set aside, gantry tilt {read.GantryTilt:0.#}°");
            foreach (string note in read.Notes)
                Console.WriteLine(note);
            foreach (var slice in selection.Slices)
                Console.WriteLine($"{slice.Index,2}  layer {slice.Layer} {slice.Level}  {slice.Source}  {slice.Reason}");
            foreach (var aside in read.SetAside)
                Console.WriteLine($"set aside: {aside.Source}: {aside.Reason}");
            if (path is not null)
                ContactSheet.Write(read, selection, windowed, path);
            return Task.FromResult(0);
        });
        return command;
    }
}
