using Pcrl.Runtime.Studies;

namespace Pcrl.Runtime.Tests.Studies;

/// <summary>
/// A head of plain shapes: a neck of muscle around a vertebra, above it a skull of 8 mm around brain that is widest a third of the way up and closes at
/// the vertex, above it air. A bright mark lies in the patient's left half.
/// </summary>
internal static class TestHead
{
    public const float BrainHeight = 120, HalfWidth = 70, HalfLength = 88, Skull = 8;

    /// <summary>A study of slices at the given heights, in mm above the lowest brain.</summary>
    /// <param name="heights">Of the slices.</param>
    /// <param name="size">Pixels along a side of the square slices.</param>
    /// <param name="spacing">Millimetres per pixel.</param>
    /// <param name="pictures">Windowed pictures without positions instead of HU.</param>
    public static Study Study(IEnumerable<float> heights, int size = 128, float spacing = 1.9f, bool pictures = false) => new(
        pictures ? "images" : "phantom", pictures ? PixelUnit.Windowed : PixelUnit.Hounsfield,
        [.. heights.Select((z, i) => Slice(z, $"{i:000}", size, spacing, pictures))], [], 0, null);

    /// <summary>Heights from one to another, one every so many millimetres.</summary>
    public static float[] Every(float step, float from, float to) => [.. Enumerable.Range(0, (int)((to - from) / step) + 1).Select(i => from + i * step)];

    private static StudySlice Slice(float z, string name, int size, float spacing, bool picture)
    {
        float along = (z / BrainHeight - 0.35f) / (z < 0.35f * BrainHeight ? 0.5f : 0.65f); // −0.7 at the base, 0 where widest, 1 at the vertex
        float brain = z is >= 0 and <= BrainHeight ? MathF.Sqrt(1 - along * along) : 0;
        var pixels = new float[size * size];
        for (int i = 0; i < pixels.Length; i++)
        {
            float x = (i % size + 0.5f - size / 2f) * spacing, y = (i / size + 0.5f - size / 2f) * spacing;
            float hounsfield = -1000;
            if (z < 0)
            {
                float r = MathF.Sqrt(x * x + y * y);
                hounsfield = r < 20 ? 600 : r < 60 ? 55 : -1000;
            }
            else if (brain > 0)
            {
                float inner = Round(x, y, HalfWidth * brain, HalfLength * brain), outer = Round(x, y, HalfWidth * brain + Skull, HalfLength * brain + Skull);
                bool mark = brain > 0.8f && Round(x - 30, y, 12, 12) < 1;
                hounsfield = inner < 1 ? mark ? 70 : 34 : outer < 1 ? 900 : -1000;
            }
            pixels[i] = picture ? MathF.Round(Math.Clamp(hounsfield / 80, 0, 1) * 255) : hounsfield;
        }
        return picture
            ? new StudySlice(name, SlicePixels.Of(pixels, size), float.NaN, float.NaN, float.NaN, float.NaN)
            : new StudySlice(name, SlicePixels.Of(pixels, size), spacing, spacing, z, float.NaN);
    }

    private static float Round(float x, float y, float a, float b) => x * x / (a * a) + y * y / (b * b);
}
