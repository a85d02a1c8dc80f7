using System.Runtime.CompilerServices;

namespace Pcrl.Train.Data;

/// <summary>
/// The surfaces of the standard head, in canonical millimetres: origin at the anterior commissure, x to the patient's left, y forwards,
/// z up, about the size of a large adult head (brain from x −68 to 68, y −104 to 70, z −64 to 79).
/// </summary>
internal static class PhantomAnatomy
{
    public const float CentreY = -17, CentreZ = 6;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Clamp01(float x) => x < 0 ? 0 : x > 1 ? 1 : x;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Smooth(float x)
    {
        x = Clamp01(x);
        return x * x * (3 - 2 * x);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Min(float a, float b) => a < b ? a : b;

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Max(float a, float b) => a > b ? a : b;

    /// <summary>Share of a pixel of width 2·<paramref name="half"/> that lies on the positive side of a surface at signed distance <paramref name="d"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Cover(float d, float half) => Clamp01(0.5f + d / (2 * half));

    /// <summary>Share of a pixel of width 2·<paramref name="half"/>, at distance <paramref name="d"/> from the middle of a sheet, that the sheet fills.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sheet(float d, float sheetHalf, float half) =>
        Max(0, Min(d + half, sheetHalf) - Max(d - half, -sheetHalf)) / (2 * half);

    /// <summary>Floor of the cranial cavity under (|x|, y), and the factor that turns height above it into distance.</summary>
    public static (float Z, float Normal) Floor(float ax, float y)
    {
        float domeX = (ax - 33) * 0.036f, domeY = (y - 46) * 0.034f;
        float front = -29 + 13 * Smooth((ax - 6) / 18) * Max(0, 1 - domeX * domeX - domeY * domeY);
        float bowlX = (ax - 40) * 0.036f, bowlY = (y + 3) * 0.032f, cupX = ax * 0.021f, cupY = (y + 58) * 0.024f;
        float middle = -28 - (13 + 12 * Max(0, 1 - bowlX * bowlX - bowlY * bowlY)) * Smooth((ax - 13) / 10);
        float back = -50 - 17 * Max(0, 1 - cupX * cupX - cupY * cupY);
        float sphenoid = 12 + 0.22f * ax, petrous = Petrous(ax);
        float widthBack = 24 - 16 * Smooth(ax / 16);
        float s = Clamp01((y - sphenoid + 3) / 7), p = Clamp01((petrous - y) / widthBack);
        float z = middle + (front - middle) * s * s * (3 - 2 * s);
        float slope = Max((front - middle) * 6 * s * (1 - s) / 7, (z - back) * 6 * p * (1 - p) / widthBack);
        z += (back - z) * p * p * (3 - 2 * p);
        return (z, 1 / MathF.Sqrt(1 + slope * slope));
    }

    /// <summary>Depth inside the vertebral canal, which continues the cavity downwards through the foramen magnum.</summary>
    public static float Canal(float ax, float y, float z) => Min(14 - MathF.Sqrt(ax * ax + (y + 38) * (y + 38)), -50 - z);

    /// <summary>y of the petrous ridge, the border between middle and posterior fossa.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Petrous(float ax) => -6 - 0.55f * ax;

    /// <summary>Height of the tentorium; its free edge surrounds the midbrain.</summary>
    public static float Tentorium(float ax, float y)
    {
        float dx = Max(0, ax - 15), dy = Max(0, -46 - y);
        return 3 - 0.56f * MathF.Sqrt(dx * dx + dy * dy);
    }

    /// <summary>Height of the Sylvian fissure, which rises backwards.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static float Sylvian(float y) => -6 - 0.6f * (y - 4);

    /// <summary>The lobe of a point above the tentorium.</summary>
    public static PhantomOrgan Lobe(float ax, float y, float z)
    {
        if (z < Sylvian(y) && y > -62 && ax > 17 && y < 16 + 0.2f * ax) return PhantomOrgan.Temporal;
        if (y < -68 && z < 38) return PhantomOrgan.Occipital;
        if (y < -6 - 0.4f * (z - 10)) return z < -4 ? PhantomOrgan.Temporal : PhantomOrgan.Parietal;
        return PhantomOrgan.Frontal;
    }

    /// <summary>Anatomical layer (<see cref="Pcrl.Runtime.Studies.Anatomy"/>) of a canonical height on the brain's axis, −1 outside the brain.</summary>
    public static int Layer(float z) => z switch
    {
        < -58 => -1,
        < -31 => 0,
        < -14 => 1,
        < -2 => 2,
        < 11 => 3,
        < 22 => 4,
        < 34 => 5,
        < 51 => 6,
        < 77 => 7,
        _ => -1,
    };
}
