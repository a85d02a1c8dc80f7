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
/// <remarks>MONOCHROME1 is not among these: it says how to paint the values, not what they are.</remarks>
internal readonly record struct DicomPixels(
    int BitsAllocated, int BitsStored, int HighBit, bool Signed, double Slope, double Intercept, int PaddingLow, int PaddingHigh)
{
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
}
