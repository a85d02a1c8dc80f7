namespace Pcrl.Runtime.Studies;

/// <summary>How a DICOM file is encoded: two ways are read, the others are known by name so that a refusal can say what to convert.</summary>
internal static class DicomTransferSyntax
{
    public const string ImplicitLittleEndian = "1.2.840.10008.1.2";
    public const string ExplicitLittleEndian = "1.2.840.10008.1.2.1";

    /// <summary>Why a syntax is not read, or null if it is.</summary>
    public static string? Problem(string uid) => uid is ImplicitLittleEndian or ExplicitLittleEndian ? null
        : $"encoded as {Name(uid)} ({Printable(uid)}), only uncompressed little-endian DICOM is read";

    /// <summary>Whether the elements before the pixels can be walked: every compressed syntax encodes them as explicit little-endian.</summary>
    public static bool HasReadableHeader(string uid) => uid is not ("1.2.840.10008.1.2.2" or "1.2.840.10008.1.2.1.99" or "");

    private static string Name(string uid) => uid switch
    {
        "" => "nothing it names",
        "1.2.840.10008.1.2.2" => "big-endian",
        "1.2.840.10008.1.2.1.99" => "deflated",
        "1.2.840.10008.1.2.5" => "RLE",
        "1.2.840.10008.1.2.4.50" or "1.2.840.10008.1.2.4.51" => "JPEG",
        "1.2.840.10008.1.2.4.57" or "1.2.840.10008.1.2.4.70" => "lossless JPEG",
        "1.2.840.10008.1.2.4.80" or "1.2.840.10008.1.2.4.81" => "JPEG-LS",
        "1.2.840.10008.1.2.4.90" or "1.2.840.10008.1.2.4.91" => "JPEG 2000",
        "1.2.840.10008.1.2.4.201" or "1.2.840.10008.1.2.4.202" or "1.2.840.10008.1.2.4.203" => "high-throughput JPEG 2000",
        _ => "an unknown transfer syntax",
    };

    private static string Printable(string uid) => uid.Length <= 64 && uid.All(c => char.IsAsciiDigit(c) || c == '.') ? uid : "no valid name";
}
