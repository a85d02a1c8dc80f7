using System.Buffers.Binary;
using System.Globalization;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Text;

namespace Pcrl.Runtime.Tests.Studies;

/// <summary>Writes small DICOM files, right ones and wrong ones.</summary>
internal sealed class DicomBuilder
{
    public const string Implicit = "1.2.840.10008.1.2", Explicit = "1.2.840.10008.1.2.1";
    private const uint Undefined = 0xFFFFFFFF;

    private readonly SortedDictionary<uint, (string Vr, byte[] Value, uint Length)> _elements = [];

    public string Syntax { get; set; } = Explicit;

    public DicomBuilder Text(uint tag, string vr, string value)
    {
        byte[] bytes = Encoding.Latin1.GetBytes(value.Length % 2 == 0 ? value : value + (vr == "UI" ? '\0' : ' '));
        return Raw(tag, vr, bytes, (uint)bytes.Length);
    }

    public DicomBuilder Short(uint tag, int value, string vr = "US") => Raw(tag, vr, [(byte)value, (byte)(value >> 8)], 2);

    public DicomBuilder Raw(uint tag, string vr, byte[] value, uint length)
    {
        _elements[tag] = (vr, value, length);
        return this;
    }

    public DicomBuilder Without(uint tag)
    {
        _elements.Remove(tag);
        return this;
    }

    public DicomBuilder Numbers(uint tag, params double[] values) =>
        Text(tag, "DS", string.Join('\\', values.Select(v => v.ToString("0.######", CultureInfo.InvariantCulture))));

    public DicomBuilder Plane(Vector3 place, Vector3 row, Vector3 column) =>
        Numbers(0x00200032, place.X, place.Y, place.Z).Numbers(0x00200037, row.X, row.Y, row.Z, column.X, column.Y, column.Z);

    public DicomBuilder Pixels(int columns, int rows, ReadOnlySpan<short> values) =>
        Short(0x00280011, columns).Short(0x00280010, rows).Raw(0x7FE00010, "OW", MemoryMarshal.AsBytes(values).ToArray(), (uint)values.Length * 2);

    /// <summary>A CT image without place or pixels: 16 bits, signed, value = HU.</summary>
    public static DicomBuilder Ct() => new DicomBuilder()
        .Text(0x00080008, "CS", @"ORIGINAL\PRIMARY\AXIAL").Text(0x00080016, "UI", "1.2.840.10008.5.1.4.1.1.2").Text(0x00080060, "CS", "CT")
        .Text(0x00100010, "PN", "Secretname^Anna").Text(0x00100020, "LO", "SECRET-4711").Text(0x0020000E, "UI", "1.2.3.4")
        .Numbers(0x00180050, 1).Numbers(0x00280030, 1, 1)
        .Short(0x00280002, 1).Text(0x00280004, "CS", "MONOCHROME2")
        .Short(0x00280100, 16).Short(0x00280101, 16).Short(0x00280102, 15).Short(0x00280103, 1)
        .Numbers(0x00281050, 40).Numbers(0x00281051, 80).Numbers(0x00281052, 0).Numbers(0x00281053, 1);

    /// <summary>Slice z of <see cref="TestWorld"/>, stored along any two of the patient's axes (each ±x or ±y).</summary>
    public static DicomBuilder World(int z, Vector3 row, Vector3 column)
    {
        int columns = row.X != 0 ? TestWorld.Width : TestWorld.Height, rows = row.X != 0 ? TestWorld.Height : TestWorld.Width;
        var sum = row + column;
        var start = new Vector3(sum.X < 0 ? TestWorld.Width - 1 : 0, sum.Y < 0 ? TestWorld.Height - 1 : 0, z);
        short[] values = new short[columns * rows];
        for (int i = 0; i < values.Length; i++)
        {
            var at = start + row * (i % columns) + column * (i / columns);
            values[i] = (short)TestWorld.Value((int)at.X, (int)at.Y, z);
        }
        return Ct().Plane(start, row, column).Pixels(columns, rows, values);
    }

    public static DicomBuilder World(int z) => World(z, Vector3.UnitX, Vector3.UnitY);

    public static void SaveWorld(TemporaryFolder folder, Action<int, DicomBuilder>? change = null)
    {
        for (int z = 0; z < TestWorld.Slices; z++)
        {
            var builder = World(z);
            change?.Invoke(z, builder);
            folder.Write($"{z + 1}.dcm", builder.ToBytes());
        }
    }

    public byte[] ToBytes()
    {
        var meta = new MemoryStream();
        if (_elements.TryGetValue(0x00080016, out var sopClass))
        {
            Write(meta, 0x00020002, "UI", sopClass.Value, null, true);
        }
        Write(meta, 0x00020010, "UI", Encoding.Latin1.GetBytes(Syntax.Length % 2 == 0 ? Syntax : Syntax + '\0'), null, true);
        var file = new MemoryStream();
        file.Write(new byte[128]);
        file.Write("DICM"u8);
        Write(file, 0x00020000, "UL", BitConverter.GetBytes((uint)meta.Length), null, true);
        meta.WriteTo(file);
        foreach (var (tag, (vr, value, length)) in _elements)
        {
            Write(file, tag, vr, value, length, Syntax != Implicit);
        }
        return file.ToArray();
    }

    /// <summary>The value of a sequence of undefined length with one item that holds such a sequence, and so on; with its ends.</summary>
    public static byte[] Nested(int depth, bool isExplicit)
    {
        var stream = new MemoryStream();
        for (int i = 0; i < depth; i++)
        {
            Write(stream, 0xFFFEE000, "", [], Undefined, false);
            Write(stream, 0x00100020, "LO", "OTHER "u8.ToArray(), null, isExplicit);
            if (i < depth - 1)
            {
                Write(stream, 0x00081140, "SQ", [], Undefined, isExplicit);
            }
        }
        for (int i = 0; i < depth; i++)
        {
            Write(stream, 0xFFFEE00D, "", [], null, false);
            Write(stream, 0xFFFEE0DD, "", [], null, false);
        }
        return stream.ToArray();
    }

    private static void Write(Stream stream, uint tag, string vr, byte[] value, uint? length, bool isExplicit)
    {
        uint size = length ?? (uint)value.Length;
        Span<byte> head = stackalloc byte[12];
        BinaryPrimitives.WriteUInt16LittleEndian(head, (ushort)(tag >> 16));
        BinaryPrimitives.WriteUInt16LittleEndian(head[2..], (ushort)tag);
        int used = 8;
        if (!isExplicit)
        {
            BinaryPrimitives.WriteUInt32LittleEndian(head[4..], size);
        }
        else
        {
            Encoding.ASCII.GetBytes(vr, head[4..]);
            if (vr is "OB" or "OW" or "SQ" or "UN" or "UT")
            {
                BinaryPrimitives.WriteUInt32LittleEndian(head[8..], size);
                used = 12;
            }
            else
            {
                BinaryPrimitives.WriteUInt16LittleEndian(head[6..], (ushort)size);
            }
        }
        stream.Write(head[..used]);
        stream.Write(value);
    }
}
