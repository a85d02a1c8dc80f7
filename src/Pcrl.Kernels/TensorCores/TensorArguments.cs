using System.Runtime.InteropServices;

namespace Pcrl.Kernels.TensorCores;

/// <summary>What <see cref="TensorKernel"/> is launched with, as it lies in memory. All offsets in the image are counted in bytes.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct TensorArguments
{
    /// <summary>Added to a coordinate it puts it outside of every image, whatever a tap adds.</summary>
    public const int Outside = 1 << 30;

    /// <summary>Bytes of an entry of the table: dy, dx, offset in the input, nothing.</summary>
    public const int EntryBytes = 16;

    /// <summary>bfloat16 [N, H, W, C]; <see cref="Residual"/> may be null.</summary>
    public nint Input, Output, Residual;

    /// <summary>An entry for each eight values of K, or for each one.</summary>
    public nint Table;

    /// <summary>The tiles of the weights, as they lie in shared memory: [column tiles, steps, columns, 64].</summary>
    public nint Weight;

    /// <summary>fp32, filled up to whole tiles.</summary>
    public nint Bias;

    public uint Rows, Steps, Columns, ColumnTiles;

    /// <summary>An output row is pixel (row / GridW % …, row % GridW) of the grid: see <see cref="Convolution.TapGrid"/>.</summary>
    public uint GridPixels, GridW;

    public uint StrideH, StrideW, InputH, InputW, InputPixelBytes;

    public uint FirstH, FirstW, StepH, StepW, OutputH, OutputW, OutputPixelBytes;

    /// <summary>n / divisor = n · reciprocal &gt;&gt; shift, for n below 2³¹.</summary>
    public uint PixelsReciprocal, PixelsShift, WidthReciprocal, WidthShift;

    /// <summary>0 for a ReLU, else −∞.</summary>
    public float Floor;

    public static int Size => Marshal.SizeOf<TensorArguments>();

    public static int Offset(string field) => (int)Marshal.OffsetOf<TensorArguments>(field);

    /// <summary>The multiplication that divides by <paramref name="divisor"/>.</summary>
    public static (uint Reciprocal, uint Shift) Division(int divisor)
    {
        int shift = 31;
        while (1L << (shift - 31) < divisor)
            shift++;
        return ((uint)(((UInt128.One << shift) + (uint)divisor - 1) / (uint)divisor), (uint)shift);
    }
}
