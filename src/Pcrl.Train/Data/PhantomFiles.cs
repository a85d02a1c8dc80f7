using System.Buffers.Binary;
using System.IO.Compression;
using Pcrl.Runtime;
using Pcrl.Runtime.Studies;

namespace Pcrl.Train.Data;

/// <summary>Writes phantoms as files that any viewer, and this product, opens.</summary>
public static class PhantomFiles
{
    private const int HeaderBytes = 352;

    /// <summary>
    /// Writes the volume as NIfTI-1 (int16 Hounsfield units, gzipped when <paramref name="path"/> ends in <c>.gz</c>). Columns run to the patient's left and
    /// rows backwards, as in the study; the header's RAS affine says so (x and y negative, z positive).
    /// </summary>
    /// <exception cref="InputException">The file can't be written.</exception>
    public static void WriteNifti(Phantom phantom, string path)
    {
        AtomicFile.Write(path, stream =>
        {
            if (!path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase))
            {
                Write(phantom.Study, stream);
                return;
            }
            using var zip = new GZipStream(stream, CompressionLevel.Optimal, leaveOpen: true);
            Write(phantom.Study, zip);
        });
    }

    private static void Write(Study study, Stream stream)
    {
        StudySlice first = study.Slices[0];
        float spacing = study.Slices.Count > 1 ? study.Slices[1].Position - first.Position : first.Thickness;
        var header = new byte[HeaderBytes];
        void Int(int at, int value) => BinaryPrimitives.WriteInt32LittleEndian(header.AsSpan(at), value);
        void Short(int at, short value) => BinaryPrimitives.WriteInt16LittleEndian(header.AsSpan(at), value);
        void Float(int at, float value) => BinaryPrimitives.WriteSingleLittleEndian(header.AsSpan(at), value);

        Int(0, 348);
        short[] dim = [3, (short)first.Width, (short)first.Height, (short)study.Slices.Count, 1, 1, 1, 1];
        for (int i = 0; i < dim.Length; i++) Short(40 + 2 * i, dim[i]);
        Short(70, 4); // int16
        Short(72, 16); // bits
        float[] pixdim = [1, first.PixelSpacingX, first.PixelSpacingY, spacing];
        for (int i = 0; i < pixdim.Length; i++) Float(76 + 4 * i, pixdim[i]);
        Float(108, HeaderBytes);
        Float(112, 1); // slope
        header[123] = 2; // millimetres
        "phantom, not a person"u8.CopyTo(header.AsSpan(148));
        Short(252, 1); // qform and sform: scanner coordinates
        Short(254, 1);
        float x0 = first.PixelSpacingX * (first.Width - 1) / 2, y0 = first.PixelSpacingY * (first.Height - 1) / 2;
        // The quaternion (0, 0, 0, 1) turns by 180° about z: x and y flip.
        Float(264, 1);
        Float(268, x0);
        Float(272, y0);
        Float(276, first.Position);
        Float(280, -first.PixelSpacingX);
        Float(292, x0);
        Float(300, -first.PixelSpacingY);
        Float(308, y0);
        Float(320, spacing);
        Float(324, first.Position);
        "n+1\0"u8.CopyTo(header.AsSpan(344));
        stream.Write(header);

        var row = new byte[2 * first.Width * first.Height];
        foreach (StudySlice slice in study.Slices)
        {
            float[] pixels = slice.Pixels.ToArray();
            for (int i = 0; i < pixels.Length; i++)
                BinaryPrimitives.WriteInt16LittleEndian(row.AsSpan(2 * i), (short)MathF.Round(Math.Clamp(pixels[i], -1024, 3071)));
            stream.Write(row);
        }
    }
}
