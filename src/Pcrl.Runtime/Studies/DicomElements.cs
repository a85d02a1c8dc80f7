using System.Buffers.Binary;

namespace Pcrl.Runtime.Studies;

/// <summary>
/// The elements at the top of a little-endian DICOM data set, one after the other. Sequences are stepped over, however deep they
/// are nested and whether or not their lengths are given, without recursion: the depth is a number, so it cannot exhaust a stack.
/// </summary>
internal struct DicomElements(DicomBytes data, int start, bool explicitVr)
{
    private const uint Undefined = 0xFFFFFFFF;
    private const uint Item = 0xFFFEE000, ItemEnd = 0xFFFEE00D, SequenceEnd = 0xFFFEE0DD;

    /// <summary>Where the next element begins.</summary>
    public int Position { get; private set; } = start;

    /// <summary>Moves on to the next element.</summary>
    /// <returns>False at the end of the data.</returns>
    /// <exception cref="InputException">The data end within an element or are no DICOM.</exception>
    public bool Next(out DicomElement element)
    {
        if (Position == data.Length)
        {
            element = default;
            return false;
        }
        uint tag = Header(explicitVr, out bool unknown, out uint length);
        if (tag == DicomTag.PixelData && length == Undefined)
        {
            element = new DicomElement(tag, Position, -1); // frames of a compressed image
            return true;
        }
        if (length == Undefined)
        {
            SkipNested(explicitVr && !unknown);
            length = 0;
        }
        element = new DicomElement(tag, Position, (int)length);
        Advance(length);
        return true;
    }

    // Steps past the end of a sequence of undefined length whose header has just been read.
    private void SkipNested(bool isExplicit)
    {
        // A value of unknown representation and undefined length is encoded with implicit ones (PS3.5 6.2.2), until it ends.
        int depth = 1, implicitFrom = isExplicit ? int.MaxValue : 1;
        while (depth > 0)
        {
            uint tag = Header(depth < implicitFrom, out bool unknown, out uint length);
            if (tag is ItemEnd or SequenceEnd)
            {
                depth--;
                implicitFrom = depth < implicitFrom && explicitVr ? int.MaxValue : implicitFrom;
            }
            else if (length == Undefined)
            {
                depth++;
                implicitFrom = unknown ? Math.Min(implicitFrom, depth) : implicitFrom;
            }
            else
            {
                Advance(length);
            }
        }
    }

    public static InputException Truncated(string path) => new(path, "the DICOM file is truncated or damaged");

    private uint Header(bool isExplicit, out bool unknown, out uint length)
    {
        var head = Take(8);
        uint tag = (uint)BinaryPrimitives.ReadUInt16LittleEndian(head) << 16 | BinaryPrimitives.ReadUInt16LittleEndian(head[2..]);
        unknown = false;
        if (!isExplicit || tag is Item or ItemEnd or SequenceEnd)
        {
            length = BinaryPrimitives.ReadUInt32LittleEndian(head[4..]);
            return tag;
        }
        var vr = head[4..6];
        if (!char.IsAsciiLetterUpper((char)vr[0]) || !char.IsAsciiLetterUpper((char)vr[1]))
        {
            throw new InputException(data.Path, $"damaged: no DICOM element at byte {Position - 8}");
        }
        unknown = vr.SequenceEqual("UN"u8);
        bool isLong = unknown || vr.SequenceEqual("SQ"u8) || (vr[0] == 'O') || vr.SequenceEqual("UT"u8) || vr.SequenceEqual("UC"u8)
            || vr.SequenceEqual("UR"u8) || vr.SequenceEqual("UV"u8) || vr.SequenceEqual("SV"u8);
        length = isLong ? BinaryPrimitives.ReadUInt32LittleEndian(Take(4)) : BinaryPrimitives.ReadUInt16LittleEndian(head[6..]);
        return tag;
    }

    private ReadOnlySpan<byte> Take(int count)
    {
        int at = Position;
        Advance((uint)count);
        return data.Slice(at, count);
    }

    private void Advance(uint count)
    {
        if (count > data.Length - Position)
        {
            throw Truncated(data.Path);
        }
        Position += (int)count;
    }
}

/// <summary>Where an element's value lies in the file; length −1 for compressed pixels.</summary>
internal readonly record struct DicomElement(uint Tag, int Offset, int Length);

/// <summary>The elements that are read, group in the upper half.</summary>
internal static class DicomTag
{
    public const uint
        TransferSyntax = 0x00020010, MediaSopClass = 0x00020002, ImageType = 0x00080008, Modality = 0x00080060,
        PatientName = 0x00100010, StudyInstanceUid = 0x0020000D, PatientId = 0x00100020, SliceThickness = 0x00180050, GantryTilt = 0x00181120,
        SeriesUid = 0x0020000E, ImagePosition = 0x00200032, ImageOrientation = 0x00200037,
        SamplesPerPixel = 0x00280002, NumberOfFrames = 0x00280008, Rows = 0x00280010, Columns = 0x00280011, PixelSpacing = 0x00280030,
        BitsAllocated = 0x00280100, BitsStored = 0x00280101, HighBit = 0x00280102, PixelRepresentation = 0x00280103,
        PixelPadding = 0x00280120, PixelPaddingLimit = 0x00280121,
        WindowCentre = 0x00281050, WindowWidth = 0x00281051, RescaleIntercept = 0x00281052, RescaleSlope = 0x00281053, RescaleType = 0x00281054,
        PixelData = 0x7FE00010;
}
