using System.Buffers.Binary;
using System.IO.Compression;
using System.Numerics;

namespace Pcrl.Runtime.Tests.Studies;

/// <summary>Writes small NIfTI-1 volumes, right ones and wrong ones. World axes: +x right, +y anterior, +z cranial.</summary>
internal sealed class NiftiBuilder
{
    public int[] Sizes = [TestWorld.Width, TestWorld.Height, TestWorld.Slices];
    public short[] Dim4To7 = [1, 1, 1, 1];
    public short Rank = 3, DataType = 4;
    public bool BigEndian;
    public float Slope = 1, Intercept, QFac = 1, CalMin, CalMax;
    public Vector3 Steps = Vector3.One;
    public Vector3[]? SForm;
    public Quaternion? QForm;
    public Vector3 Offset;
    public string Magic = "n+1\0";
    public int HeaderSize = 348;
    public float DataOffset = 352;
    public Func<int, int, int, double> Voxel = (i, j, k) => i;

    /// <summary>
    /// <see cref="TestWorld"/> stored so that stored axis n runs along an axis of the box: 0 to the left, 1 to posterior, 2 to cranial,
    /// against it where flipped.
    /// </summary>
    public static NiftiBuilder World(int[] axes, bool[] flips)
    {
        int[] box = [TestWorld.Width, TestWorld.Height, TestWorld.Slices];
        Vector3[] ways = [-Vector3.UnitX, -Vector3.UnitY, Vector3.UnitZ];
        var origin = Vector3.Zero;
        for (int n = 0; n < 3; n++)
        {
            origin += flips[n] ? ways[axes[n]] * (box[axes[n]] - 1) : Vector3.Zero;
        }
        return new NiftiBuilder
        {
            Sizes = [box[axes[0]], box[axes[1]], box[axes[2]]],
            SForm = [.. axes.Select((a, n) => ways[a] * (flips[n] ? -1 : 1)), origin],
            Voxel = (i, j, k) =>
            {
                int[] stored = [i, j, k], at = new int[3];
                for (int n = 0; n < 3; n++)
                {
                    at[axes[n]] = flips[n] ? box[axes[n]] - 1 - stored[n] : stored[n];
                }
                return TestWorld.Value(at[0], at[1], at[2]);
            },
        };
    }

    public byte[] Header()
    {
        byte[] head = new byte[352];
        void Int16(int at, int value)
        {
            if (BigEndian) { BinaryPrimitives.WriteInt16BigEndian(head.AsSpan(at), (short)value); }
            else { BinaryPrimitives.WriteInt16LittleEndian(head.AsSpan(at), (short)value); }
        }
        void Single(int at, float value)
        {
            if (BigEndian) { BinaryPrimitives.WriteSingleBigEndian(head.AsSpan(at), value); }
            else { BinaryPrimitives.WriteSingleLittleEndian(head.AsSpan(at), value); }
        }
        BinaryPrimitives.WriteInt32LittleEndian(head, BigEndian ? BinaryPrimitives.ReverseEndianness(HeaderSize) : HeaderSize);
        Int16(40, Rank);
        for (int n = 0; n < 3; n++)
        {
            Int16(42 + 2 * n, Sizes[n]);
            Single(80 + 4 * n, Steps[n]);
        }
        for (int n = 0; n < 4; n++)
        {
            Int16(48 + 2 * n, Dim4To7[n]);
        }
        Int16(70, DataType);
        Single(76, QFac);
        Single(108, DataOffset);
        Single(112, Slope);
        Single(116, Intercept);
        head[123] = 2;
        Single(124, CalMax);
        Single(128, CalMin);
        if (QForm is { } q)
        {
            Int16(252, 1);
            Single(256, q.X);
            Single(260, q.Y);
            Single(264, q.Z);
            for (int n = 0; n < 3; n++)
            {
                Single(268 + 4 * n, Offset[n]);
            }
        }
        if (SForm is not null)
        {
            Int16(254, 1);
            for (int row = 0; row < 3; row++)
            {
                for (int column = 0; column < 4; column++)
                {
                    Single(280 + 16 * row + 4 * column, SForm[column][row]);
                }
            }
        }
        System.Text.Encoding.ASCII.GetBytes(Magic, head.AsSpan(344));
        return head;
    }

    public byte[] ToBytes()
    {
        var stream = new MemoryStream();
        stream.Write(Header());
        for (int k = 0; k < Sizes[2]; k++)
        {
            for (int j = 0; j < Sizes[1]; j++)
            {
                for (int i = 0; i < Sizes[0]; i++)
                {
                    double v = Voxel(i, j, k);
                    byte[] bytes = DataType switch
                    {
                        2 => [(byte)v],
                        256 => [(byte)(sbyte)v],
                        4 => BitConverter.GetBytes((short)v),
                        512 => BitConverter.GetBytes((ushort)v),
                        8 => BitConverter.GetBytes((int)v),
                        768 => BitConverter.GetBytes((uint)v),
                        16 => BitConverter.GetBytes((float)v),
                        _ => BitConverter.GetBytes(v),
                    };
                    if (BigEndian)
                    {
                        Array.Reverse(bytes);
                    }
                    stream.Write(bytes);
                }
            }
        }
        return stream.ToArray();
    }

    public static byte[] Zip(params byte[][] parts)
    {
        var stream = new MemoryStream();
        using (var zip = new GZipStream(stream, CompressionLevel.Fastest))
        {
            foreach (byte[] part in parts)
            {
                zip.Write(part);
            }
        }
        return stream.ToArray();
    }
}
