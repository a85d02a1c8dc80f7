namespace Pcrl.Train.Clues;

/// <summary>Takes masks to the grid on which the model predicts them (y of eq. 3).</summary>
public static class MaskGrid
{
    /// <summary>Share of a cell that must be covered for <c>coverage</c>.</summary>
    private const double Enough = 0.125;

    /// <summary>Resizes a mask to [grid, grid].</summary>
    /// <param name="mask">Any size.</param>
    /// <param name="grid">Cells in a row.</param>
    /// <param name="form">
    /// <c>nearest</c>: the pixel at the cell's corner, as torch's nearest interpolation takes it; <c>coverage</c>: cells of which an eighth is covered, and the cell that is
    /// covered most: on a grid of few cells, nearest would lose most lesions.
    /// </param>
    /// <returns>0 or 1, row-major.</returns>
    public static float[] Resize(RunLengthMask mask, int grid, string form)
    {
        bool[] pixels = mask.Decode();
        var cells = new float[grid * grid];
        if (form == "nearest")
        {
            for (int i = 0; i < cells.Length; i++)
                cells[i] = pixels[i / grid * mask.Height / grid * mask.Width + i % grid * mask.Width / grid] ? 1 : 0;
            return cells;
        }
        var counts = new int[cells.Length];
        for (int i = 0; i < pixels.Length; i++)
        {
            if (pixels[i])
                counts[i / mask.Width * grid / mask.Height * grid + i % mask.Width * grid / mask.Width]++;
        }
        double enough = Math.Min(Enough * pixels.Length / cells.Length, Math.Max(1, counts.Max()));
        return Array.ConvertAll(counts, count => count >= enough ? 1f : 0);
    }
}
