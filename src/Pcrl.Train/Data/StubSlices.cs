using Pcrl.Runtime.Studies;
namespace Pcrl.Train.Data;
internal static class StubSlices
{
    public static int[] Choose(Phantom phantom)
    {
        var layers = phantom.Truth.LayerOfSlice;
        var inside = Enumerable.Range(0, layers.Count).Where(i => layers[i] >= 0).ToArray();
        return [.. Enumerable.Range(0, 24).Select(i => inside[Math.Min(inside.Length - 1, (int)Math.Round(i * (inside.Length - 1) / 23.0))])];
    }
    public static byte[] Prepare(Study study, int[] chosen, int size)
    {
        var result = new byte[chosen.Length * size * size];
        for (int k = 0; k < chosen.Length; k++)
        {
            var s = study.Slices[chosen[k]];
            for (int y = 0; y < size; y++)
                for (int x = 0; x < size; x++)
                {
                    float fy = (y + 0.5f) * s.Height / size - 0.5f, fx = (x + 0.5f) * s.Width / size - 0.5f;
                    int y0 = Math.Clamp((int)fy, 0, s.Height - 2), x0 = Math.Clamp((int)fx, 0, s.Width - 2);
                    float a = fy - y0, b = fx - x0;
                    float P(int yy, int xx) => Math.Clamp(s.Pixels[yy * s.Width + xx] / 80f, 0, 1);
                    float v = (1 - a) * ((1 - b) * P(y0, x0) + b * P(y0, x0 + 1)) + a * ((1 - b) * P(y0 + 1, x0) + b * P(y0 + 1, x0 + 1));
                    result[(k * size + y) * size + x] = (byte)(v * 255 + 0.5f);
                }
        }
        return result;
    }
}
