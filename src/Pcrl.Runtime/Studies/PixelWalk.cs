using System.Numerics;

namespace Pcrl.Runtime.Studies;

/// <summary>An axis of a stored array: how many steps, how far apart, and whether the display runs against it.</summary>
internal readonly record struct StoredAxis(int Length, int Stride, bool Flip);

/// <summary>Where the pixels of a slice, as displayed, lie in the array they were stored in.</summary>
internal readonly record struct PixelWalk(int Width, int Height, int Start, int StepX, int StepY)
{
    /// <summary>The walk over two axes of an array from an offset, turned by their flips.</summary>
    public static PixelWalk Over(StoredAxis x, StoredAxis y, int offset = 0)
    {
        int start = offset + (x.Flip ? (x.Length - 1) * x.Stride : 0) + (y.Flip ? (y.Length - 1) * y.Stride : 0);
        return new PixelWalk(x.Length, y.Length, start, x.Flip ? -x.Stride : x.Stride, y.Flip ? -y.Stride : y.Stride);
    }

    /// <summary>The slice as displayed, [Height, Width].</summary>
    /// <param name="stored">The array.</param>
    /// <param name="table">What each stored value means.</param>
    public float[] Read<T>(ReadOnlySpan<T> stored, float[] table) where T : unmanaged, IBinaryInteger<T>
    {
        float[] pixels = GC.AllocateUninitializedArray<float>(Width * Height);
        for (int y = 0; y < Height; y++)
        {
            var row = pixels.AsSpan(y * Width, Width);
            int at = Start + y * StepY;
            for (int x = 0; x < row.Length; x++, at += StepX)
                row[x] = table[int.CreateTruncating(stored[at])];
        }
        return pixels;
    }
}
