using System.Text;
using Pcrl.Runtime;

namespace Pcrl.Train.Data;

/// <summary>The cache of prepared phantoms between stages. Not an exchange format: it is made anew whenever anything before it changes.</summary>
internal static class StudyCache
{
    public static void Save(string path, IReadOnlyList<TrainingStudy> studies) => AtomicFile.Write(path, stream =>
    {
        using var writer = new BinaryWriter(stream, Encoding.UTF8, leaveOpen: true);
        writer.Write(studies.Count);
        foreach (var study in studies)
        {
            writer.Write(study.Seed);
            Bytes(writer, study.Slices);
            Bytes(writer, study.Labels);
            Bytes(writer, study.Raster!.Lesions);
            Bytes(writer, study.Raster!.Organs);
            Strings(writer, study.Findings);
            Strings(writer, study.KeyPhrases);
        }
    });

    /// <exception cref="InputException">Unreadable or damaged.</exception>
    public static List<TrainingStudy> Load(string path)
    {
        try
        {
            using var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, 1 << 20);
            using var reader = new BinaryReader(stream, Encoding.UTF8);
            var studies = new List<TrainingStudy>();
            for (int count = reader.ReadInt32(); studies.Count < count;)
                studies.Add(new TrainingStudy(reader.ReadUInt64(), Bytes(reader), Bytes(reader),
                    new SliceRaster(Bytes(reader), Bytes(reader)), Strings(reader), Strings(reader)));
            return studies;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or FormatException)
        {
            throw new InputException(path, $"cannot be read; delete it to make it anew ({e.Message})", e);
        }
    }

    private static void Bytes(BinaryWriter writer, byte[] bytes)
    {
        writer.Write(bytes.Length);
        writer.Write(bytes);
    }

    private static byte[] Bytes(BinaryReader reader)
    {
        int length = reader.ReadInt32();
        if (length < 0 || length > reader.BaseStream.Length - reader.BaseStream.Position)
            throw new EndOfStreamException("it is damaged");
        return reader.ReadBytes(length);
    }

    private static void Strings(BinaryWriter writer, IReadOnlyList<string> strings)
    {
        writer.Write(strings.Count);
        foreach (string text in strings)
            writer.Write(text);
    }

    private static List<string> Strings(BinaryReader reader)
    {
        var strings = new List<string>();
        for (int count = reader.ReadInt32(); strings.Count < count;)
            strings.Add(reader.ReadString());
        return strings;
    }
}
