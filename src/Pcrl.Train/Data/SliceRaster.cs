using Pcrl.Runtime.Studies;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Data;

/// <summary>A coarse raster over each prepared slice that says where lesions and organs are.</summary>
/// <param name="Lesions">[24, Side, Side]: 0, or 1 + index of the lesion's finest label in <see cref="SliceLabels"/>.</param>
/// <param name="Organs">[24, Side, Side]: 2 · <see cref="PhantomOrgan"/>, plus 1 on the patient's left.</param>
public sealed record SliceRaster(byte[] Lesions, byte[] Organs)
{
    /// <summary>Cells in a row.</summary>
    public const int Side = 48;

    /// <summary>The raster of the chosen slices of a phantom.</summary>
    public static SliceRaster Of(Phantom phantom, SliceSelection selection)
    {
        int size = phantom.Study.Slices[0].Width;
        var lesions = new byte[selection.Slices.Count * Side * Side];
        var organs = new byte[lesions.Length];
        var lesionLabels = phantom.Truth.Lesions.Select(l => (Left: (byte)(1 + Label(l.Fact, Evaluation.Side.Left)),
            Right: (byte)(1 + Label(l.Fact, Evaluation.Side.Right)))).ToArray();
        var (columns, rows) = Origins(phantom.Study, selection, Side);
        for (int i = 0; i < lesions.Length; i++)
        {
            int cell = i % (Side * Side), x = columns[cell], y = rows[cell];
            if (x < 0 || y < 0)
                continue; // outside the scanned field: no lesion, organ 0
            int voxel = (selection.Slices[i / (Side * Side)].Slice * size + y) * size + x;
            bool left = 2 * x >= size; // the patient's left is on the right of the picture
            organs[i] = (byte)(2 * (int)phantom.Masks.Organs[voxel] + (left ? 1 : 0));
            if (phantom.Masks.Lesions[voxel] is > 0 and var mark)
                lesions[i] = left ? lesionLabels[mark - 1].Left : lesionLabels[mark - 1].Right;
        }
        return new SliceRaster(lesions, organs);
    }

    /// <summary>
    /// Which pixel of the scan each cell shows; −1 for none. Found by sending pictures of the coordinates down the same road as the slices, so that
    /// the raster follows whatever crop and scale is in force there.
    /// </summary>
    internal static (int[] Columns, int[] Rows) Origins(Study study, SliceSelection selection, int side)
    {
        var first = study.Slices[0];
        int size = first.Width;
        int[] Origin(Func<int, float> coordinate)
        {
            // 1 to 254 of 255, so that black can only mean outside.
            var pixels = new float[size * size];
            for (int i = 0; i < pixels.Length; i++)
                pixels[i] = 1 + 253 * (coordinate(i) + 0.5f) / size;
            var ramp = study with { Unit = PixelUnit.Windowed, Slices = [first with { Pixels = SlicePixels.Of(pixels, size) }] };
            var only = selection with { Slices = [selection.Slices[0] with { Slice = 0 }] };
            float[] seen = SliceImages.Prepare(ramp, only, side, WindowChoice.Brain);
            return [.. seen.Select(v => v * 255 < 1 ? -1 : Math.Clamp((int)((v * 255 - 1) * size / 253), 0, size - 1))];
        }
        return (Origin(i => i % size), Origin(i => i / size));
    }

    /// <summary>The label of a lesion; one on both sides has a label on each.</summary>
    private static int Label(LesionFact fact, Side half)
    {
        string place = fact.Region is BrainRegion.None or BrainRegion.Convexity ? $"{fact.Kind}" : $"{fact.Kind}:{fact.Region}";
        var side = fact.Side == Evaluation.Side.Both ? half : fact.Side;
        return SliceLabels.IndexOf(side == Evaluation.Side.Midline ? place : $"{place}:{side}");
    }
}
