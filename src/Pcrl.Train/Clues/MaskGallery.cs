using Pcrl.Train.Models.Sam;

namespace Pcrl.Train.Clues;

/// <summary>Which of a slice's automatic masks may stand for an entity (docs/clues.md).</summary>
public static class MaskGallery
{
    /// <summary>Masks kept per slice.</summary>
    public const int Size = 5;

    /// <summary>
    /// By falling area, the largest (the head) dropped, the next five kept; five or fewer are all kept.
    /// </summary>
    public static IReadOnlyList<SamMask> Select(IReadOnlyList<SamMask> masks)
    {
        var byArea = masks.OrderByDescending(m => m.Area).ToList();
        return byArea.Count <= Size ? byArea : byArea.GetRange(1, Size);
    }

    /// <summary>A slice that is black outside a mask. Slice and mask are row-major and of one size.</summary>
    public static byte[] Masked(ReadOnlySpan<byte> slice, RunLengthMask mask)
    {
        if (slice.Length != mask.Height * mask.Width)
            throw new ArgumentException($"a slice of {slice.Length} pixels under a mask of {mask.Height} × {mask.Width}", nameof(slice));
        var masked = new byte[slice.Length];
        bool[] inside = mask.Decode();
        for (int i = 0; i < masked.Length; i++)
            masked[i] = inside[i] ? slice[i] : (byte)0;
        return masked;
    }
}
