namespace Pcrl.Runtime.Studies;

/// <summary>What the numbers in <see cref="StudySlice.Pixels"/> mean.</summary>
public enum PixelUnit
{
    /// <summary>Hounsfield units; a window must be applied before a network sees them.</summary>
    Hounsfield,

    /// <summary>An already windowed 8-bit picture, 0 to 255.</summary>
    Windowed,
}

/// <summary>One axial slice, as a radiologist looks at it: image left is the patient's right, image top is anterior.</summary>
/// <param name="Source">File the slice came from, relative to the study; for volumes <c>volume.nii.gz#17</c>.</param>
/// <param name="Pixels">[Height, Width], in the study's <see cref="Study.Unit"/>.</param>
/// <param name="PixelSpacingX">Millimetres between columns; NaN where unknown (pictures).</param>
/// <param name="PixelSpacingY">Millimetres between rows; NaN where unknown.</param>
/// <param name="Position">Millimetres along the slice normal, rising from caudal to cranial; NaN where unknown.</param>
/// <param name="Thickness">Slice thickness in millimetres; NaN where unknown.</param>
public sealed record StudySlice(
    string Source, SlicePixels Pixels, float PixelSpacingX, float PixelSpacingY, float Position, float Thickness)
{
    /// <summary>Pixels per row.</summary>
    public int Width => Pixels.Width;

    /// <summary>Rows.</summary>
    public int Height => Pixels.Height;
}

/// <summary>A file that was looked at and left out, and why, in one clause.</summary>
public sealed record SetAside(string Source, string Reason);

/// <summary>A head CT: axial slices from caudal to cranial, whatever files it came from.</summary>
/// <param name="Format"><c>dicom</c>, <c>nifti</c>, <c>images</c> or <c>phantom</c>.</param>
/// <param name="Unit">Meaning of the pixel values.</param>
/// <param name="Slices">Ordered from caudal to cranial.</param>
/// <param name="SetAside">Files that did not become slices.</param>
/// <param name="GantryTilt">Gantry tilt in degrees, 0 where there is none or it is unknown.</param>
/// <param name="SeriesWindow">The series' own (centre, width), if its header names one.</param>
public sealed record Study(
    string Format, PixelUnit Unit, IReadOnlyList<StudySlice> Slices, IReadOnlyList<SetAside> SetAside,
    float GantryTilt, (float Centre, float Width)? SeriesWindow)
{
    /// <summary>What the reader put right without being told to, one clause each.</summary>
    public IReadOnlyList<string> Notes { get; init; } = [];
}
