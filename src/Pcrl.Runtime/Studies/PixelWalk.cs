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
}
