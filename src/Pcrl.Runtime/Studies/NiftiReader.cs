using System.Buffers.Binary;
using System.Collections.Concurrent;
using System.IO.Compression;
using System.Numerics;
using System.Runtime.InteropServices;

namespace Pcrl.Runtime.Studies;

/// <summary>
/// A NIfTI-1 volume (.nii or .nii.gz) as axial slices: the stored axes are permuted and flipped to the display's, never resampled.
/// A slice's source is <c>name.nii.gz#k</c>, k its index from 0 along the stored axis; its thickness is the distance to the next.
/// </summary>
internal static class NiftiReader
{
    private const int LargestTail = 16 << 20;
    private const int LargestDeflateRatio = 1032; // what one compressed byte can give at most
    private static readonly (int X, int Y, int Z)[] Permutations = [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)];

    public static Study Read(string path, string source, IReadOnlyList<SetAside> setAside, CancellationToken cancellation)
    {
        byte[] voxels;
        NiftiHeader header;
        View view;
        try
        {
            using var file = File.OpenRead(path);
            bool zipped = path.EndsWith(".gz", StringComparison.OrdinalIgnoreCase);
            using Stream stream = zipped ? new GZipStream(file, CompressionMode.Decompress) : file;
            byte[] head = new byte[NiftiHeader.Length];
            stream.ReadExactly(head);
            header = NiftiHeader.Parse(path, head);
            view = View.Of(path, header);
            if (StudyReader.SizeProblem(view.X.Length, view.Y.Length) is { } problem)
            {
                throw new InputException(path, problem);
            }
            StudyReader.CheckCount(path, view.Z.Length, (long)view.X.Length * view.Y.Length, setAside);

            long needed = header.DataOffset + header.VoxelBytes;
            if (header.VoxelBytes > Array.MaxLength || (zipped ? file.Length * LargestDeflateRatio : file.Length) < needed)
            {
                throw Truncated(path);
            }
            Skip(stream, header.DataOffset - NiftiHeader.Length);
            voxels = new byte[header.VoxelBytes];
            for (int read = 0; read < voxels.Length;)
            {
                cancellation.ThrowIfCancellationRequested();
                int chunk = Math.Min(voxels.Length - read, 1 << 22);
                stream.ReadExactly(voxels, read, chunk);
                read += chunk;
            }
            if (zipped)
            {
                ReadToEnd(path, stream);
            }
        }
        catch (EndOfStreamException e)
        {
            throw Truncated(path, e);
        }
        catch (InvalidDataException e)
        {
            throw new InputException(path, "its compression is damaged", e);
        }
        int[] places = [.. Enumerable.Range(0, view.Z.Length)];
        SlicePixels[] pixels;
        if (header.DataType is NiftiType.Int16 or NiftiType.UInt16)
        {
            // CTs are stored so.
            var values = MemoryMarshal.Cast<byte, short>(voxels.AsSpan());
            if (header.Swapped)
                BinaryPrimitives.ReverseEndianness(values, values);
            var scale = new PixelScale(16, 16, 15, header.DataType == NiftiType.Int16, header.Slope, header.Intercept, 1, 0);
            var tables = new ConcurrentDictionary<PixelScale, float[]>();
            pixels = Array.ConvertAll(places, k => SlicePixels.Of(voxels, view.Walk(k), scale, tables));
        }
        else
            pixels = StudyReader.ForEach(places, k => SlicePixels.Of(Decode(header, voxels, view, k), view.X.Length), cancellation);
        StudySlice[] slices = Array.ConvertAll(places, k => view.Slice(source, k, pixels[k]));
        return new Study("nifti", PixelUnit.Hounsfield, slices, setAside, view.Tilt, header.Window);
    }

    private static InputException Truncated(string path, Exception? inner = null) => new(path, "the volume is truncated", inner);

    private static void Skip(Stream stream, int count)
    {
        Span<byte> waste = stackalloc byte[4096];
        while (count > 0)
        {
            int part = Math.Min(count, waste.Length);
            stream.ReadExactly(waste[..part]);
            count -= part;
        }
    }

    // Only at its end gzip compares its checksum; damage can also make the data longer.
    private static void ReadToEnd(string path, Stream stream)
    {
        Span<byte> waste = stackalloc byte[4096];
        int total = 0;
        for (int read; (read = stream.Read(waste)) > 0;)
        {
            total += read;
            if (total > LargestTail)
            {
                throw new InputException(path, "holds far more than the voxels that its header describes");
            }
        }
    }

    private static float[] Decode(NiftiHeader header, byte[] voxels, View view, int k)
    {
        var walk = view.Walk(k);
        return header.DataType switch
        {
            NiftiType.UInt8 => Decode<byte>(b => b),
            NiftiType.Int8 => Decode<sbyte>(b => b),
            NiftiType.Int32 => Decode<int>(BinaryPrimitives.ReverseEndianness),
            NiftiType.UInt32 => Decode<uint>(BinaryPrimitives.ReverseEndianness),
            NiftiType.Float32 => Decode<float>(v => BitConverter.UInt32BitsToSingle(BinaryPrimitives.ReverseEndianness(BitConverter.SingleToUInt32Bits(v)))),
            _ => Decode<double>(v => BitConverter.UInt64BitsToDouble(BinaryPrimitives.ReverseEndianness(BitConverter.DoubleToUInt64Bits(v)))),
        };

        float[] Decode<T>(Func<T, T> reverse) where T : unmanaged, INumberBase<T>
        {
            var stored = MemoryMarshal.Cast<byte, T>(voxels);
            var pixels = new float[walk.Width * walk.Height];
            for (int y = 0, i = 0; y < walk.Height; y++)
            {
                for (int x = 0, at = walk.Start + y * walk.StepY; x < walk.Width; x++, i++, at += walk.StepX)
                {
                    T value = header.Swapped ? reverse(stored[at]) : stored[at];
                    pixels[i] = HounsfieldRange.Clamp(double.CreateTruncating(value) * header.Slope + header.Intercept);
                }
            }
            return pixels;
        }
    }

    /// <summary>The volume's axes in the order and direction of the display: X to the patient's left, Y to posterior, Z to cranial.</summary>
    private sealed record View(StoredAxis X, StoredAxis Y, StoredAxis Z, float SpacingX, float SpacingY, float SpacingZ, float FirstPosition, float Tilt)
    {
        public static View Of(string path, NiftiHeader header)
        {
            var axes = header.Axes;
            var unit = Array.ConvertAll(axes, Vector3.Normalize);
            var (x, y, z) = Permutations.MaxBy(p => MathF.Abs(unit[p.X].X) + MathF.Abs(unit[p.Y].Y) + MathF.Abs(unit[p.Z].Z));

            // The slices' normal, not the stack's direction: the two part where the gantry was tilted.
            var normal = Vector3.Cross(unit[x], unit[y]);
            normal = normal.Length() > 0.5f ? Vector3.Normalize(normal) * MathF.Sign(normal.Z) : Vector3.Zero;
            float along = MathF.Abs(Vector3.Dot(unit[z], normal));
            if (!(normal.Z > AxialCosine && along > AxialCosine))
            {
                throw new InputException(path, "the volume's axes lie more than 45° off the patient's: no axial slices in it");
            }
            int[] strides = [1, header.Sizes[0], header.Sizes[0] * header.Sizes[1]];
            StoredAxis Axis(int a, bool flip) => new(header.Sizes[a], strides[a], flip);
            bool downward = unit[z].Z < 0;
            float step = Vector3.Dot(axes[z], normal);
            float first = Vector3.Dot(header.Origin, normal) + (downward ? (header.Sizes[z] - 1) * step : 0);
            float tilt = float.RadiansToDegrees(MathF.Acos(MathF.Min(1, along)));
            return new View(
                Axis(x, unit[x].X > 0), Axis(y, unit[y].Y > 0), Axis(z, downward),
                axes[x].Length(), axes[y].Length(), MathF.Abs(step), first, tilt < SmallestTilt ? 0 : tilt);
        }

        private int Stored(int k) => Z.Flip ? Z.Length - 1 - k : k;

        public PixelWalk Walk(int k) => PixelWalk.Over(X, Y, Stored(k) * Z.Stride);

        public StudySlice Slice(string source, int k, SlicePixels pixels) =>
            new($"{source}#{Stored(k)}", pixels, SpacingX, SpacingY, FirstPosition + k * SpacingZ, SpacingZ);
    }

    private const float AxialCosine = 0.7071f;
    private const float SmallestTilt = 0.5f; // degrees; less is rounding in the header
}
