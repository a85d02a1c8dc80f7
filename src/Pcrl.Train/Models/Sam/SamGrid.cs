using Pcrl.Train.Clues;

namespace Pcrl.Train.Models.Sam;

/// <summary>Where the automatic mask generator points, and into which crops it cuts a picture.</summary>
public static class SamGrid
{
    /// <summary>n × n points in 0..1, (x, y) after one another, row by row.</summary>
    public static double[] Points(int n)
    {
        double offset = 1.0 / (2 * n);
        double At(int i) => n == 1 ? offset : offset + i * ((1 - offset - offset) / (n - 1));
        var points = new double[n * n * 2];
        for (int y = 0; y < n; y++)
        {
            for (int x = 0; x < n; x++)
                (points[(y * n + x) * 2], points[(y * n + x) * 2 + 1]) = (At(x), At(y));
        }
        return points;
    }

    /// <summary>The whole picture (layer 0), then 2^i × 2^i overlapping crops for every layer i ≥ 1.</summary>
    /// <param name="height">Rows of the picture.</param>
    /// <param name="width">Columns of the picture.</param>
    /// <param name="layers">Layers beyond the whole picture.</param>
    /// <param name="overlap">Overlap in the first layer as a share of the picture's short side.</param>
    /// <returns>Boxes with exclusive far edges.</returns>
    public static IReadOnlyList<(MaskBox Box, int Layer)> Crops(int height, int width, int layers, double overlap)
    {
        var crops = new List<(MaskBox, int)> { (new MaskBox(0, 0, width, height), 0) };
        for (int layer = 1; layer <= layers; layer++)
        {
            int side = 1 << layer;
            int shared = (int)(overlap * Math.Min(height, width) * (2.0 / side));
            int Length(int whole) => (int)Math.Ceiling((shared * (side - 1) + whole) / (double)side);
            int cropWidth = Length(width), cropHeight = Length(height);
            for (int i = 0; i < side; i++)
            {
                for (int j = 0; j < side; j++)
                {
                    int left = (cropWidth - shared) * i, top = (cropHeight - shared) * j;
                    crops.Add((new MaskBox(left, top, Math.Min(left + cropWidth, width), Math.Min(top + cropHeight, height)), layer));
                }
            }
        }
        return crops;
    }
}
