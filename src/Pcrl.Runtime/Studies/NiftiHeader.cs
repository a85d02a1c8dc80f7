using System.Buffers.Binary;
using System.Numerics;

namespace Pcrl.Runtime.Studies;

/// <summary>What a NIfTI-1 header says of a volume, checked. World axes are NIfTI's: +x is the patient's right, +y anterior, +z cranial.</summary>
/// <param name="Sizes">Voxels along the three stored axes, the first running fastest.</param>
/// <param name="Axes">Millimetres in the world of one step along each stored axis.</param>
/// <param name="Origin">World place of the first voxel, millimetres.</param>
/// <param name="DataType">NIfTI code of the voxels' type.</param>
/// <param name="BytesPerVoxel">Size of that type.</param>
/// <param name="Swapped">Whether numbers are big-endian.</param>
/// <param name="DataOffset">Where the voxels start in the (inflated) file.</param>
/// <param name="Slope">Stored value → HU.</param>
/// <param name="Intercept">Stored value → HU.</param>
/// <param name="Window">Display range the header names, as (centre, width).</param>
internal sealed record NiftiHeader(
    int[] Sizes, Vector3[] Axes, Vector3 Origin, int DataType, int BytesPerVoxel, bool Swapped, int DataOffset,
    double Slope, double Intercept, (float Centre, float Width)? Window)
{
    public const int Length = 348;
    private const int MaximumDataOffset = 16 << 20;

    public long VoxelBytes => (long)Sizes[0] * Sizes[1] * Sizes[2] * BytesPerVoxel;

    /// <param name="path">For messages.</param>
    /// <param name="bytes">The first <see cref="Length"/> bytes of the inflated file.</param>
    public static NiftiHeader Parse(string path, ReadOnlySpan<byte> bytes)
    {
        InputException No(string problem) => new(path, problem);
        int size = BinaryPrimitives.ReadInt32LittleEndian(bytes);
        bool swapped = BinaryPrimitives.ReverseEndianness(size) is Length or 540;
        size = swapped ? BinaryPrimitives.ReverseEndianness(size) : size;
        if (size == 540)
        {
            throw No("a NIfTI-2 volume; only NIfTI-1 is read");
        }
        if (size != Length || !bytes[344..348].SequenceEqual("n+1\0"u8))
        {
            throw No("no NIfTI-1 volume in one file");
        }
        var fields = new Fields(bytes, swapped);

        int rank = fields.Int16(40);
        if (rank is < 3 or > 7)
        {
            throw No("no volume: a NIfTI study has three dimensions");
        }
        int[] sizes = [fields.Int16(42), fields.Int16(44), fields.Int16(46)];
        if (sizes.Any(s => s < 1))
        {
            throw No("the header names a dimension of no voxels");
        }
        for (int d = 4; d <= rank; d++)
        {
            if (fields.Int16(40 + 2 * d) > 1)
            {
                throw No("holds more than one volume");
            }
        }

        int type = fields.Int16(70);
        int bytesPerVoxel = type switch
        {
            NiftiType.UInt8 or NiftiType.Int8 => 1,
            NiftiType.Int16 or NiftiType.UInt16 => 2,
            NiftiType.Int32 or NiftiType.UInt32 or NiftiType.Float32 => 4,
            NiftiType.Float64 => 8,
            _ => throw No($"its voxel type (code {type}) is not read"),
        };
        float offset = fields.Single(108);
        if (!(offset >= Length && offset <= MaximumDataOffset))
        {
            throw No("the header names no sensible start of the voxels");
        }

        var (axes, origin) = Affine(fields);
        if (axes.Any(a => !(a.Length() is > 0.01f and < 100)) || !float.IsFinite(origin.Length()))
        {
            throw No("the header gives the voxels no sensible size");
        }
        double slope = fields.Single(112), intercept = fields.Single(116);
        bool scaled = double.IsFinite(slope) && double.IsFinite(intercept) && slope != 0; // the standard: slope 0 means unscaled
        float high = fields.Single(124), low = fields.Single(128);
        return new NiftiHeader(sizes, axes, origin, type, bytesPerVoxel, swapped, (int)offset, scaled ? slope : 1, scaled ? intercept : 0,
            high - low is >= 1 and < 1e5f ? ((high + low) / 2, high - low) : null);
    }

    // The standard's order: the affine matrix, else the quaternion, else the voxel sizes along axes taken as right, anterior, cranial.
    private static (Vector3[] Axes, Vector3 Origin) Affine(Fields fields)
    {
        float unit = (fields.Bytes[123] & 7) switch { 1 => 1000, 3 => 0.001f, _ => 1 };
        var steps = new Vector3(fields.Single(80), fields.Single(84), fields.Single(88)) * unit;
        if (fields.Int16(254) > 0)
        {
            Vector3 Column(Fields f, int c) => new Vector3(f.Single(280 + 4 * c), f.Single(296 + 4 * c), f.Single(312 + 4 * c)) * unit;
            return ([Column(fields, 0), Column(fields, 1), Column(fields, 2)], Column(fields, 3));
        }
        if (fields.Int16(252) > 0)
        {
            float b = fields.Single(256), c = fields.Single(260), d = fields.Single(264);
            var turn = new Quaternion(b, c, d, MathF.Sqrt(MathF.Max(0, 1 - b * b - c * c - d * d)));
            float handedness = fields.Single(76) < 0 ? -1 : 1;
            return ([
                    Vector3.Transform(Vector3.UnitX, turn) * steps.X,
                    Vector3.Transform(Vector3.UnitY, turn) * steps.Y,
                    Vector3.Transform(Vector3.UnitZ, turn) * steps.Z * handedness,
                ],
                new Vector3(fields.Single(268), fields.Single(272), fields.Single(276)) * unit);
        }
        return ([Vector3.UnitX * MathF.Abs(steps.X), Vector3.UnitY * MathF.Abs(steps.Y), Vector3.UnitZ * MathF.Abs(steps.Z)], Vector3.Zero);
    }

    private readonly ref struct Fields(ReadOnlySpan<byte> bytes, bool swapped)
    {
        public ReadOnlySpan<byte> Bytes { get; } = bytes;

        public short Int16(int at) =>
            swapped ? BinaryPrimitives.ReadInt16BigEndian(Bytes[at..]) : BinaryPrimitives.ReadInt16LittleEndian(Bytes[at..]);

        public float Single(int at) =>
            swapped ? BinaryPrimitives.ReadSingleBigEndian(Bytes[at..]) : BinaryPrimitives.ReadSingleLittleEndian(Bytes[at..]);
    }
}

/// <summary>NIfTI's codes of the voxel types that are read.</summary>
internal static class NiftiType
{
    public const int UInt8 = 2, Int16 = 4, Int32 = 8, Float32 = 16, Float64 = 64, Int8 = 256, UInt16 = 512, UInt32 = 768;
}
