using System.Buffers.Binary;
using System.Text;
using Pcrl.Runtime;

namespace Pcrl.Train.Checkpoints;

/// <summary>
/// Where the members of a zip file lie, for zip files that store and don't compress (PyTorch's). Nothing is unpacked anywhere: a member's
/// name is only a key, so a path in it can do no harm.
/// </summary>
internal static class ZipDirectory
{
    private const uint EndSignature = 0x06054b50, End64Signature = 0x06064b50, Locator64Signature = 0x07064b50;
    private const uint EntrySignature = 0x02014b50, LocalSignature = 0x04034b50;

    /// <summary>Offset and length of every member by name.</summary>
    /// <exception cref="InputException">Truncated, inconsistent, compressed, or the same name twice.</exception>
    public static Dictionary<string, (long Offset, long Length)> Read(string source, MappedFile file)
    {
        InputException Broken() => new(source, "is a truncated or broken zip file; is the download complete?");
        ReadOnlySpan<byte> Bytes(long offset, long count) =>
            offset >= 0 && count <= file.Length - offset ? file.Bytes(offset, (int)count) : throw Broken();

        // The end record is the last 22 bytes, with a comment of up to 64 KiB behind it.
        int tail = (int)Math.Min(file.Length, 22 + 65535);
        var end = Bytes(file.Length - tail, tail);
        int at = end.LastIndexOf("PK\u0005\u0006"u8);
        if (at < 0 || end.Length - at < 22)
            throw Broken();
        long endOffset = file.Length - tail + at;
        end = end[at..];
        long count = BinaryPrimitives.ReadUInt16LittleEndian(end[10..]);
        long size = BinaryPrimitives.ReadUInt32LittleEndian(end[12..]);
        long offset = BinaryPrimitives.ReadUInt32LittleEndian(end[16..]);
        if (endOffset >= 20 && BinaryPrimitives.ReadUInt32LittleEndian(Bytes(endOffset - 20, 20)) == Locator64Signature)
        {
            var end64 = Bytes(BinaryPrimitives.ReadInt64LittleEndian(Bytes(endOffset - 12, 8)), 56);
            if (BinaryPrimitives.ReadUInt32LittleEndian(end64) != End64Signature)
                throw Broken();
            count = BinaryPrimitives.ReadInt64LittleEndian(end64[32..]);
            size = BinaryPrimitives.ReadInt64LittleEndian(end64[40..]);
            offset = BinaryPrimitives.ReadInt64LittleEndian(end64[48..]);
        }
        if (size < 0 || size > int.MaxValue || count < 0)
            throw Broken();
        var directory = Bytes(offset, size);
        var members = new Dictionary<string, (long, long)>();
        for (long i = 0; i < count; i++)
        {
            if (directory.Length < 46 || BinaryPrimitives.ReadUInt32LittleEndian(directory) != EntrySignature)
                throw Broken();
            int nameLength = BinaryPrimitives.ReadUInt16LittleEndian(directory[28..]);
            int extraLength = BinaryPrimitives.ReadUInt16LittleEndian(directory[30..]);
            int entryLength = 46 + nameLength + extraLength + BinaryPrimitives.ReadUInt16LittleEndian(directory[32..]);
            if (directory.Length < entryLength)
                throw Broken();
            string name = Encoding.UTF8.GetString(directory.Slice(46, nameLength));
            if (BinaryPrimitives.ReadUInt16LittleEndian(directory[10..]) != 0)
                throw new InputException(source, "is a compressed zip file, which PyTorch never writes");
            var (local, length) = Location(directory, directory.Slice(46 + nameLength, extraLength));
            var header = Bytes(local, 30);
            if (BinaryPrimitives.ReadUInt32LittleEndian(header) != LocalSignature)
                throw Broken();
            long data = local + 30 + BinaryPrimitives.ReadUInt16LittleEndian(header[26..]) + BinaryPrimitives.ReadUInt16LittleEndian(header[28..]);
            if (length < 0 || data > file.Length || length > file.Length - data)
                throw Broken();
            if (!members.TryAdd(name, (data, length)))
                throw new InputException(source, "holds the same member twice");
            directory = directory[entryLength..];
        }
        return members;
    }

    /// <summary>Offset of the local header and the size; where 32 bits don't suffice they stand in the extra field 1, in this order.</summary>
    private static (long Local, long Length) Location(ReadOnlySpan<byte> entry, ReadOnlySpan<byte> extra)
    {
        uint packed = BinaryPrimitives.ReadUInt32LittleEndian(entry[20..]), unpacked = BinaryPrimitives.ReadUInt32LittleEndian(entry[24..]);
        uint local = BinaryPrimitives.ReadUInt32LittleEndian(entry[42..]);
        long longLength = unpacked, longLocal = local;
        while (extra.Length >= 4)
        {
            int field = BinaryPrimitives.ReadUInt16LittleEndian(extra[2..]);
            if (field > extra.Length - 4)
                break;
            if (BinaryPrimitives.ReadUInt16LittleEndian(extra) == 1)
            {
                var wide = extra.Slice(4, field);
                if (unpacked == uint.MaxValue)
                    longLength = Next(ref wide);
                if (packed == uint.MaxValue)
                    Next(ref wide);
                if (local == uint.MaxValue)
                    longLocal = Next(ref wide);
                break;
            }
            extra = extra[(4 + field)..];
        }
        return (longLocal, longLength);
    }

    private static long Next(ref ReadOnlySpan<byte> wide)
    {
        if (wide.Length < 8)
            return -1; // refused as a broken offset
        long value = BinaryPrimitives.ReadInt64LittleEndian(wide);
        wide = wide[8..];
        return value;
    }
}
