using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Data;

/// <summary>Where on a slice lesions show, on a coarse raster: tells the trunk which cells of its output a label is about.</summary>
internal static class LesionCells
{
    /// <summary>Cells in a row of the raster.</summary>
    public const int Side = 48;

    /// <summary>The raster of each chosen slice: [slices, Side, Side], 0 or 1 + index of the lesion's finest label.</summary>
    public static byte[] Of(Phantom phantom, IReadOnlyList<int> slices)
    {
        int size = phantom.Study.Slices[0].Width;
        var cells = new byte[slices.Count * Side * Side];
        var (left, right) = (new byte[256], new byte[256]);
        for (int i = 0; i < phantom.Truth.Lesions.Count; i++)
        {
            var fact = phantom.Truth.Lesions[i].Fact;
            left[i + 1] = (byte)(1 + Label(fact, Pcrl.Train.Evaluation.Side.Left));
            right[i + 1] = (byte)(1 + Label(fact, Pcrl.Train.Evaluation.Side.Right));
        }
        for (int k = 0; k < slices.Count; k++)
        {
            for (int p = 0; p < size * size; p++)
            {
                byte mark = phantom.Masks.Lesions[slices[k] * size * size + p];
                if (mark == 0)
                    continue;
                int x = p % size, y = p / size;
                // The patient's left is on the right of the picture.
                cells[(k * Side + y * Side / size) * Side + x * Side / size] = x >= size / 2 ? left[mark] : right[mark];
            }
        }
        return cells;
    }

    /// <summary>Organs of the same raster: 2 × <see cref="PhantomOrgan"/>, plus 1 on the right of the picture.</summary>
    public static byte[] Organs(Phantom phantom, IReadOnlyList<int> slices)
    {
        int size = phantom.Study.Slices[0].Width;
        var cells = new byte[slices.Count * Side * Side];
        for (int i = 0; i < cells.Length; i++)
        {
            int x = i % Side, y = i / Side % Side, k = slices[i / (Side * Side)];
            byte organ = phantom.Masks.Organs[(k * size + (2 * y + 1) * size / (2 * Side)) * size + (2 * x + 1) * size / (2 * Side)];
            cells[i] = (byte)(2 * organ + (2 * x >= Side ? 1 : 0));
        }
        return cells;
    }

    /// <summary>The label of a lesion; one on both sides has a label on each.</summary>
    private static int Label(LesionFact fact, Side half)
    {
        string place = fact.Region is BrainRegion.None or BrainRegion.Convexity ? $"{fact.Kind}" : $"{fact.Kind}:{fact.Region}";
        var side = fact.Side == Evaluation.Side.Both ? half : fact.Side;
        return SliceLabels.IndexOf(side == Evaluation.Side.Midline ? place : $"{place}:{side}");
    }
}
