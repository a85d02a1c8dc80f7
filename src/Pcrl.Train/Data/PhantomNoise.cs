using System.Numerics.Tensors;
using System.Runtime.CompilerServices;

namespace Pcrl.Train.Data;

/// <summary>
/// Read-only random textures, made once per process from fixed seeds: a smooth band-limited volume whose zero level gives the folds of the
/// cortex, and grain for the pictures. All sums are plain additions, so every machine makes the same bits.
/// </summary>
internal static class PhantomNoise
{
    private const int N = 64, Mask = N - 1;
    private const int GrainSize = 512, GrainMask = GrainSize - 1;

    private static readonly Lazy<float[]> LazyFolds = new(MakeFolds);
    private static readonly Lazy<float[]> LazyFine = new(() => MakeGrain(0));
    private static readonly Lazy<float[]> LazyCoarse = new(() => MakeGrain(1));

    /// <summary>[64, 64, 64], periodic, mean 0, standard deviation 1, wavelength about 9 cells.</summary>
    public static float[] Folds => LazyFolds.Value;

    /// <summary>Trilinear value of <paramref name="volume"/> at a point in cells.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float At(float[] volume, float x, float y, float z)
    {
        // A large even offset keeps truncation equal to floor.
        x += 1024; y += 1024; z += 1024;
        int ix = (int)x, iy = (int)y, iz = (int)z;
        float fx = x - ix, fy = y - iy, fz = z - iz;
        int x0 = ix & Mask, x1 = (ix + 1) & Mask;
        int y0 = (iy & Mask) * N, y1 = ((iy + 1) & Mask) * N;
        int z0 = (iz & Mask) * N * N, z1 = ((iz + 1) & Mask) * N * N;
        ref float v = ref System.Runtime.InteropServices.MemoryMarshal.GetArrayDataReference(volume);
        float a = Unsafe.Add(ref v, z0 + y0 + x0), b = Unsafe.Add(ref v, z0 + y0 + x1);
        float c = Unsafe.Add(ref v, z0 + y1 + x0), d = Unsafe.Add(ref v, z0 + y1 + x1);
        float e = Unsafe.Add(ref v, z1 + y0 + x0), f = Unsafe.Add(ref v, z1 + y0 + x1);
        float g = Unsafe.Add(ref v, z1 + y1 + x0), h = Unsafe.Add(ref v, z1 + y1 + x1);
        a += fx * (b - a);
        c += fx * (d - c);
        e += fx * (f - e);
        g += fx * (h - g);
        a += fy * (c - a);
        e += fy * (g - e);
        return a + fz * (e - a);
    }

    /// <summary>Adds grain of standard deviation <paramref name="sigma"/> to a square slice; a random window of the texture serves each slice.</summary>
    public static void AddGrain(Span<float> slice, int size, float sigma, float pixel, PhantomRandom random)
    {
        // Scanner noise is correlated over about a millimetre: visible grain in fine pixels, white in coarse ones.
        float[] grain = pixel < 0.9f ? LazyCoarse.Value : LazyFine.Value;
        int ox = random.Below(GrainSize), oy = random.Below(GrainSize);
        int step = random.Pick(1, 3, 5, 7);
        for (int y = 0; y < size; y++)
        {
            ReadOnlySpan<float> row = grain.AsSpan(((y + oy) & GrainMask) * GrainSize, GrainSize);
            int skip = (ox + step * (y >> 5)) & GrainMask;
            for (int x = 0; x < size; )
            {
                int run = Math.Min(size - x, GrainSize - skip);
                Span<float> to = slice.Slice(y * size + x, run);
                TensorPrimitives.MultiplyAdd(row.Slice(skip, run), sigma, to, to);
                x += run;
                skip = 0;
            }
        }
    }

    private static float[] MakeFolds()
    {
        var random = new PhantomRandom(20240607, 1);
        var narrow = new float[N * N * N];
        for (int i = 0; i < narrow.Length; i++) narrow[i] = random.Unit() - 0.5f;
        var wide = (float[])narrow.Clone();
        for (int pass = 0; pass < 3; pass++) Blur(narrow, 1);
        for (int pass = 0; pass < 4; pass++) Blur(wide, 2);
        for (int i = 0; i < narrow.Length; i++) narrow[i] -= wide[i];
        Normalise(narrow);
        return narrow;
    }

    private static void Blur(float[] v, int radius)
    {
        Span<float> line = stackalloc float[N];
        foreach (int stride in (ReadOnlySpan<int>)[1, N, N * N])
        {
            for (int start = 0; start < v.Length; start++)
            {
                if (start / stride % N != 0) continue;
                for (int i = 0; i < N; i++) line[i] = v[start + i * stride];
                for (int i = 0; i < N; i++)
                {
                    float sum = 0;
                    for (int k = -radius; k <= radius; k++) sum += line[(i + k) & Mask];
                    v[start + i * stride] = sum / (2 * radius + 1);
                }
            }
        }
    }

    private static float[] MakeGrain(int radius)
    {
        var random = new PhantomRandom(20240607, 2);
        var grain = new float[GrainSize * GrainSize];
        for (int i = 0; i < grain.Length; i++) grain[i] = random.Bell();
        if (radius > 0)
        {
            var across = new float[grain.Length];
            for (int y = 0; y < GrainSize; y++)
                for (int x = 0; x < GrainSize; x++)
                {
                    int row = y * GrainSize;
                    across[row + x] = grain[row + ((x - 1) & GrainMask)] + 2 * grain[row + x] + grain[row + ((x + 1) & GrainMask)];
                }
            for (int y = 0; y < GrainSize; y++)
                for (int x = 0; x < GrainSize; x++)
                    grain[y * GrainSize + x] = across[((y - 1) & GrainMask) * GrainSize + x] + 2 * across[y * GrainSize + x]
                        + across[((y + 1) & GrainMask) * GrainSize + x];
        }
        Normalise(grain);
        return grain;
    }

    private static void Normalise(float[] v)
    {
        double sum = 0, squares = 0;
        foreach (float x in v)
        {
            sum += x;
            squares += (double)x * x;
        }
        double mean = sum / v.Length, scale = 1 / Math.Sqrt(squares / v.Length - mean * mean);
        for (int i = 0; i < v.Length; i++) v[i] = (float)((v[i] - mean) * scale);
    }
}
