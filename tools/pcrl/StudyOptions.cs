using System.CommandLine;
using Pcrl.Runtime;
using Pcrl.Runtime.Studies;

namespace Pcrl.Tools;

/// <summary>What <c>report</c> and <c>inspect</c> ask alike.</summary>
internal static class StudyOptions
{
    public static Argument<string> Study() => new("STUDY")
    {
        Description = "A folder of DICOM files or of PNG/JPEG pictures, or a .nii/.nii.gz volume.",
    };

    public static Option<string> Window() => new("--window")
    {
        Description = "Window for Hounsfield input: brain (40/80), series (the series' own), or CENTRE/WIDTH.",
        DefaultValueFactory = _ => "brain",
    };
}
