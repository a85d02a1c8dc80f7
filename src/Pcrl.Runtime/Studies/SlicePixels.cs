using System.Collections.Concurrent;
using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.InteropServices;

namespace Pcrl.Runtime.Studies;

/// <summary>
/// The pixels of a slice as displayed, [Height, Width]. Those of a file stay as they are stored and are converted where they are looked at: most of a study's
/// never are.
/// </summary>
public abstract class SlicePixels
{
    private protected SlicePixels(int width, int height) => (Width, Height) = (width, height);

    /// <summary>Pixels per row.</summary>
    public int Width { get; }

    /// <summary>Rows.</summary>
    public int Height { get; }

    /// <summary>Takes numbers as they are.</summary>
    /// <param name="pixels">[height, width], row-major.</param>
    /// <param name="width">Pixels per row.</param>
    public static SlicePixels Of(float[] pixels, int width) => new Plain<float>(pixels, width);

    /// <summary>Takes levels of grey as they are.</summary>
    /// <param name="levels">[height, width], row-major.</param>
    /// <param name="width">Pixels per row.</param>
    public static SlicePixels Of(byte[] levels, int width) => new Plain<byte>(levels, width);

    /// <summary>Takes stored values that a scale gives a meaning.</summary>
    /// <param name="stored">The array they lie in, little-endian where they have two bytes.</param>
    /// <param name="walk">Where.</param>
    /// <param name="scale">What they mean.</param>
    /// <param name="tables">Keeps what slices of one scale share.</param>
    internal static SlicePixels Of(byte[] stored, PixelWalk walk, PixelScale scale, ConcurrentDictionary<PixelScale, float[]> tables) =>
        scale.IsWhole ? new Whole(stored, walk, scale) : new Stored(stored, walk, tables.GetOrAdd(scale, static s => s.Table()));

    /// <summary>Pixels of one row: <c>into[i]</c> becomes the one in column <c>x + i · step</c>.</summary>
    /// <param name="y">The row.</param>
    /// <param name="x">The first column.</param>
    /// <param name="step">From one column to the next.</param>
    /// <param name="into">As long as pixels are wanted.</param>
    public abstract void Read(int y, int x, int step, Span<float> into);

    /// <summary>All of them, [Height, Width].</summary>
    public float[] ToArray()
    {
        var all = new float[Width * Height];
        for (int y = 0; y < Height; y++)
            Read(y, 0, 1, all.AsSpan(y * Width, Width));
        return all;
    }

    /// <summary>Values that mean what they are.</summary>
    private sealed class Plain<T>(T[] values, int width) : SlicePixels(width, values.Length / width) where T : unmanaged, INumber<T>
    {
        public override void Read(int y, int x, int step, Span<float> into)
        {
            var from = values.AsSpan(y * Width + x, Width - x);
            if (step == 1)
                TensorPrimitives.ConvertTruncating<T, float>(from[..into.Length], into);
            else
            {
                for (int i = 0; i < into.Length; i++)
                    into[i] = float.CreateTruncating(from[i * step]);
            }
        }
    }

    /// <summary>16-bit values of a whole scale.</summary>
    private sealed class Whole(byte[] stored, PixelWalk walk, PixelScale scale) : SlicePixels(walk.Width, walk.Height)
    {
        public override void Read(int y, int x, int step, Span<float> into)
        {
            var values = MemoryMarshal.Cast<byte, ushort>(stored);
            int at = walk.Start + y * walk.StepY + x * walk.StepX, stride = step * walk.StepX;
            if (stride == 1)
            {
                scale.Convert(values.Slice(at, into.Length), into);
                return;
            }
            Span<ushort> picked = stackalloc ushort[256];
            for (int from = 0; from < into.Length; from += picked.Length)
            {
                int count = Math.Min(picked.Length, into.Length - from);
                for (int i = 0; i < count; i++, at += stride)
                    picked[i] = values[at];
                scale.Convert(picked[..count], into[from..]);
            }
        }
    }

    /// <summary>Values of a byte or two that a table gives a meaning.</summary>
    private sealed class Stored(byte[] stored, PixelWalk walk, float[] table) : SlicePixels(walk.Width, walk.Height)
    {
        public override void Read(int y, int x, int step, Span<float> into)
        {
            if (table.Length == 256)
                Look(stored, y, x, step, into);
            else
                Look(MemoryMarshal.Cast<byte, ushort>(stored), y, x, step, into);
        }

        private void Look<T>(ReadOnlySpan<T> values, int y, int x, int step, Span<float> into) where T : unmanaged, IBinaryInteger<T>
        {
            float[] meaning = table;
            int at = walk.Start + y * walk.StepY + x * walk.StepX, stride = step * walk.StepX;
            for (int i = 0; i < into.Length; i++, at += stride)
                into[i] = meaning[int.CreateTruncating(values[at])];
        }
    }
}
