using System.Buffers.Binary;
using System.Globalization;
using System.Numerics;
using System.Text;

namespace Pcrl.Runtime.Studies;

/// <summary>An axial or other CT image in a DICOM file, as its header describes it; patient axes are DICOM's: +x left, +y posterior, +z cranial.</summary>
/// <param name="SeriesUid">The series it belongs to; compared, never shown.</param>
/// <param name="Columns">Stored pixels per row.</param>
/// <param name="Rows">Stored rows.</param>
/// <param name="Row">Unit vector along a stored row.</param>
/// <param name="Column">Unit vector down a stored column.</param>
/// <param name="Place">Of the first pixel, millimetres.</param>
/// <param name="SpacingAlongRow">Millimetres, NaN if not given.</param>
/// <param name="SpacingAlongColumn">Millimetres, NaN if not given.</param>
/// <param name="Thickness">Millimetres, NaN if not given.</param>
/// <param name="Tilt">Degrees, 0 if not given.</param>
/// <param name="Window">Centre and width, if given.</param>
/// <param name="Scale">What the pixels mean.</param>
/// <param name="PixelOffset">Where they start in the file.</param>
internal sealed record DicomImage(
    string SeriesUid, int Columns, int Rows, Vector3 Row, Vector3 Column, Vector3 Place, float SpacingAlongRow, float SpacingAlongColumn,
    float Thickness, float Tilt, (float Centre, float Width)? Window, PixelScale Scale, long PixelOffset)
{
    public Vector3 Normal => Vector3.Normalize(Vector3.Cross(Row, Column));
    public int PixelBytes => Columns * Rows * Scale.BitsAllocated / 8;
}

/// <summary>A DICOM file: an image, or the reason why it cannot be a slice. What tells patients apart is compared and never shown.</summary>
internal sealed record DicomFile(StudyFile File, DicomImage? Image, string Reason, string PatientId, string PatientName, string StudyId)
{
    private const long MaximumBytes = 256 << 20;
    private const int Preamble = 132;
    private const string CtImage = "1.2.840.10008.5.1.4.1.1.2";

    /// <exception cref="InputException">The file is damaged.</exception>
    public static DicomFile Read(StudyFile file)
    {
        using var handle = System.IO.File.OpenHandle(file.Path);
        long length = RandomAccess.GetLength(handle);
        if (length > MaximumBytes)
        {
            return new DicomFile(file, null, "too large for one CT image", "", "", "");
        }
        using var bytes = new DicomBytes(file.Path, handle, (int)length);
        return Parse(file, bytes);
    }

    private static DicomFile Parse(StudyFile file, DicomBytes data)
    {
        var values = new Dictionary<uint, DicomElement>();
        int body = Preamble;
        var meta = new DicomElements(data, Preamble, explicitVr: true);
        while (body + 2 <= data.Length && BinaryPrimitives.ReadUInt16LittleEndian(data.Slice(body, 2)) == 0x0002 && meta.Next(out var element))
        {
            values[element.Tag] = element;
            body = meta.Position;
        }
        if (body == data.Length)
        {
            throw DicomElements.Truncated(file.Path);
        }
        var fields = new Fields(data, values);
        string syntax = fields.Text(DicomTag.TransferSyntax);
        if (!DicomTransferSyntax.HasReadableHeader(syntax))
        {
            return new DicomFile(file, null, DicomTransferSyntax.Problem(syntax)!, "", "", "");
        }
        var elements = new DicomElements(data, body, syntax != DicomTransferSyntax.ImplicitLittleEndian);
        while (elements.Next(out var element))
        {
            values[element.Tag] = element;
            if (element.Tag == DicomTag.PixelData)
            {
                break;
            }
        }
        // Cut off between two elements; the file's first lines tell that there should be an image.
        if (fields.Text(DicomTag.MediaSopClass) == CtImage && fields.Element(DicomTag.PixelData).Length == 0)
        {
            throw DicomElements.Truncated(file.Path);
        }
        string reason = Problem(syntax, fields);
        var image = reason == "" ? Describe(file, fields, out reason) : null;
        return new DicomFile(file, image, reason, fields.Text(DicomTag.PatientId), Name(fields.Text(DicomTag.PatientName)), fields.Text(DicomTag.StudyInstanceUid));
    }

    private static string Problem(string syntax, Fields fields)
    {
        if (!fields.Has(DicomTag.Rows))
        {
            return "a DICOM file without an image";
        }
        string modality = fields.Text(DicomTag.Modality);
        if (modality != "CT")
        {
            return $"its modality is {(modality.Length is > 0 and <= 4 && modality.All(char.IsAsciiLetterUpper) ? modality : "unknown")}, not CT";
        }
        if (fields.Text(DicomTag.ImageType).Contains("LOCALIZER", StringComparison.Ordinal))
        {
            return "a localizer";
        }
        if (DicomTransferSyntax.Problem(syntax) is { } problem)
        {
            return problem;
        }
        if (fields.Number(DicomTag.NumberOfFrames) > 1)
        {
            return "several frames in one file";
        }
        if (fields.Integer(DicomTag.SamplesPerPixel, 1) != 1)
        {
            return "a colour image";
        }
        return fields.Text(DicomTag.RescaleType) is "" or "HU" or "US" ? "" : "its values are not Hounsfield units";
    }

    private static DicomImage? Describe(StudyFile file, Fields fields, out string reason)
    {
        var place = fields.Vector(DicomTag.ImagePosition, 0);
        var row = fields.Vector(DicomTag.ImageOrientation, 0);
        var column = fields.Vector(DicomTag.ImageOrientation, 3);
        if (!(place.Length() < 1e5f && MathF.Abs(row.Length() - 1) < 0.02f && MathF.Abs(column.Length() - 1) < 0.02f && MathF.Abs(Vector3.Dot(row, column)) < 0.02f))
        {
            reason = "it says nowhere, or nothing sensible, of where it lies in the patient";
            return null;
        }
        int allocated = fields.Integer(DicomTag.BitsAllocated, 0), stored = fields.Integer(DicomTag.BitsStored, allocated);
        int high = fields.Integer(DicomTag.HighBit, stored - 1);
        if (allocated is not (8 or 16) || stored < 1 || high >= allocated || high + 1 < stored)
        {
            reason = "its pixels are neither of 8 nor of 16 bits";
            return null;
        }
        bool signed = fields.Integer(DicomTag.PixelRepresentation, 0) == 1;
        double slope = fields.Number(DicomTag.RescaleSlope), intercept = fields.Number(DicomTag.RescaleIntercept);
        bool unscaled = double.IsNaN(slope) && double.IsNaN(intercept) && signed; // may be HU as they are; unsigned ones cannot
        if (!unscaled && !(Math.Abs(slope) is > 1e-6 and < 1e6 && Math.Abs(intercept) < 1e6))
        {
            reason = "it gives no scale to Hounsfield units";
            return null;
        }
        reason = "";

        int rows = fields.Integer(DicomTag.Rows, 0), columns = fields.Integer(DicomTag.Columns, 0);
        if (StudyReader.SizeProblem(columns, rows) is { } problem)
        {
            throw new InputException(file.Path, problem);
        }
        var data = fields.Element(DicomTag.PixelData);
        if (data.Length < (long)rows * columns * allocated / 8)
        {
            throw new InputException(file.Path, $"holds fewer pixels than its {columns} × {rows}");
        }

        int paddingFrom = 1, paddingTo = 0;
        if (fields.Has(DicomTag.PixelPadding))
        {
            int padding = fields.Integer(DicomTag.PixelPadding, 0, signed), limit = fields.Integer(DicomTag.PixelPaddingLimit, padding, signed);
            (paddingFrom, paddingTo) = (Math.Min(padding, limit), Math.Max(padding, limit));
        }
        var (alongRow, alongColumn) = (Size(fields.Number(DicomTag.PixelSpacing, 1)), Size(fields.Number(DicomTag.PixelSpacing, 0)));
        if (float.IsNaN(alongRow) || float.IsNaN(alongColumn))
        {
            (alongRow, alongColumn) = (float.NaN, float.NaN); // half a size is none
        }
        static float Size(double millimetres) => millimetres is > 0.01 and < 100 ? (float)millimetres : float.NaN;
        double centre = fields.Number(DicomTag.WindowCentre), width = fields.Number(DicomTag.WindowWidth), tilt = fields.Number(DicomTag.GantryTilt);
        return new DicomImage(
            fields.Text(DicomTag.SeriesUid), columns, rows, row, column, place,
            alongRow, alongColumn, Size(fields.Number(DicomTag.SliceThickness)),
            Math.Abs(tilt) <= 45 ? (float)tilt : 0,
            Math.Abs(centre) < 1e5 && width is >= 1 and < 1e5 ? ((float)centre, (float)width) : null,
            new PixelScale(allocated, stored, high, signed, unscaled ? 1 : slope, unscaled ? 0 : intercept, paddingFrom, paddingTo), data.Offset);
    }

    // "DOE^JOHN" and "Doe^John^^" are one person.
    private static string Name(string value) => value.ToUpperInvariant().TrimEnd('^', ' ');

    private readonly struct Fields(DicomBytes data, Dictionary<uint, DicomElement> values)
    {
        public bool Has(uint tag) => Element(tag).Length > 0;

        public DicomElement Element(uint tag) => values.GetValueOrDefault(tag);

        public string Text(uint tag) =>
            Element(tag) is { Length: > 0 and <= DicomBytes.MostAtOnce } e ? Encoding.Latin1.GetString(data.Slice(e.Offset, e.Length)).Trim(' ', '\0') : "";

        // NaN if there is no such number.
        public double Number(uint tag, int index = 0)
        {
            string[] parts = Text(tag).Split('\\');
            return index < parts.Length && double.TryParse(parts[index], NumberStyles.Float, CultureInfo.InvariantCulture, out double number) ? number : double.NaN;
        }

        public Vector3 Vector(uint tag, int index) =>
            new((float)Number(tag, index), (float)Number(tag, index + 1), (float)Number(tag, index + 2));

        public int Integer(uint tag, int otherwise, bool signed = false)
        {
            if (Element(tag) is not { Length: >= 2 } e)
            {
                return otherwise;
            }
            ushort bits = BinaryPrimitives.ReadUInt16LittleEndian(data.Slice(e.Offset, 2));
            return signed ? (short)bits : bits;
        }
    }
}
