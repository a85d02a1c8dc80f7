using System.Runtime.Intrinsics;

namespace Pcrl.Runtime.Studies;

/// <summary>How stored pixels mean Hounsfield units.</summary>
/// <param name="BitsAllocated">8 or 16.</param>
/// <param name="BitsStored">1 to <paramref name="BitsAllocated"/>.</param>
/// <param name="HighBit">Uppermost bit of the value; others may hold overlays and are masked.</param>
/// <param name="Signed">Two's complement.</param>
/// <param name="Slope">Stored value → HU.</param>
/// <param name="Intercept">Stored value → HU.</param>
/// <param name="PaddingLow">Lowest stored value that means "outside the field of view"; above <paramref name="PaddingHigh"/> if none does.</param>
/// <param name="PaddingHigh">Highest such value.</param>
/// <remarks>DICOM's MONOCHROME1 is not among these: it says how to paint the values, not what they are.</remarks>
internal readonly record struct PixelScale(
    int BitsAllocated, int BitsStored, int HighBit, bool Signed, double Slope, double Intercept, int PaddingLow, int PaddingHigh)
{
    /// <summary>Whether <see cref="Convert"/> gives what <see cref="Table"/> does: whole numbers, and none that a float would round. CTs are stored so.</summary>
    public bool IsWhole =>
        BitsAllocated == 16 && Math.Truncate(Slope) == Slope && Math.Truncate(Intercept) == Intercept && Math.Abs(Slope) * (1 << 16) + Math.Abs(Intercept) <= 1 << 24;

    /// <summary>HU of every pattern a stored pixel can have: 2^BitsAllocated values.</summary>
    public float[] Table()
    {
        var table = new float[1 << BitsAllocated];
        int shift = HighBit + 1 - BitsStored, unused = 32 - BitsStored;
        for (int pattern = 0; pattern < table.Length; pattern++)
        {
            int top = (pattern >> shift) << unused;
            int value = Signed ? top >> unused : (int)((uint)top >> unused);
            table[pattern] = value >= PaddingLow && value <= PaddingHigh ? HounsfieldRange.Air : HounsfieldRange.Clamp(value * Slope + Intercept);
        }
        return table;
    }

    /// <summary>HU of stored pixels, eight at once; only where the scale <see cref="IsWhole"/>.</summary>
    public void Convert(ReadOnlySpan<ushort> stored, Span<float> hounsfield)
    {
        int lanes = Vector128<ushort>.Count, last = stored.Length - lanes;
        if (last < 0)
        {
            Span<ushort> eight = stackalloc ushort[lanes];
            Span<float> values = stackalloc float[lanes];
            stored.CopyTo(eight);
            Convert(eight, values);
            values[..stored.Length].CopyTo(hounsfield);
            return;
        }
        int above = 31 - HighBit, unused = 32 - BitsStored;
        bool signed = Signed;
        var (slope, intercept) = (Vector256.Create((float)Slope), Vector256.Create((float)Intercept));
        var (air, highest) = (Vector256.Create(HounsfieldRange.Air), Vector256.Create(HounsfieldRange.Highest));
        var (paddingLow, paddingHigh) = (Vector256.Create(PaddingLow), Vector256.Create(PaddingHigh));
        for (int i = 0; ; i = Math.Min(i + lanes, last)) // the last eight may overlap those before
        {
            var (low, high) = Vector128.Widen(Vector128.Create(stored[i..]));
            var top = Vector256.Create(low, high) << above;
            var value = signed ? top.AsInt32() >> unused : (top >>> unused).AsInt32();
            var clamped = Vector256.Min(Vector256.Max(Vector256.ConvertToSingle(value) * slope + intercept, air), highest);
            var isPadding = Vector256.GreaterThanOrEqual(value, paddingLow) & Vector256.LessThanOrEqual(value, paddingHigh);
            Vector256.ConditionalSelect(isPadding.AsSingle(), air, clamped).CopyTo(hounsfield[i..]);
            if (i == last)
                return;
        }
    }
}
