using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Data;

/// <summary>
/// Small changes that keep a slice's labels true: shift, scale, turn, sharpness, window and noise. A mirror image only where no side is labelled.
/// </summary>
internal static class SliceAugmentation
{
    /// <summary>Where a point of the changed picture comes from: row-major 2×3, in coordinates of −1 to 1.</summary>
    public readonly record struct Move(float XX, float XY, float X, float YX, float YY, float Y)
    {
        /// <summary>
        /// At strength 1 a turn up to 0.25 radians, 6 % of scale, 3 % of the width in each direction. Real heads, the children's most of all, lie turned by up to 0.6, and nobody
        /// labelled their sides: they are turned so far, and mirrored.
        /// </summary>
        /// <param name="random">Chooses.</param>
        /// <param name="strength">0: nothing moves.</param>
        /// <param name="sideless">No side is labelled: half of the slices are mirrored as well, and all may be turned further.</param>
        public static Move Draw(Random random, float strength, bool sideless)
        {
            float Uniform(float spread) => (2 * random.NextSingle() - 1) * spread * strength;
            var (sin, cos) = MathF.SinCos(Uniform(sideless ? 0.6f : 0.25f));
            float scale = 1 + Uniform(0.06f);
            float mirror = sideless && random.Next(2) == 0 ? -1 : 1;
            return new Move(mirror * scale * cos, -scale * sin, Uniform(0.06f), mirror * scale * sin, scale * cos, Uniform(0.06f));
        }

        /// <summary>The source of a point.</summary>
        public (float X, float Y) Source(float x, float y) => (XX * x + XY * y + X, YX * x + YY * y + Y);
    }

    /// <summary>Moves each slice of [N, S, S] in 0..1 and changes its sharpness, window and noise; those numbers are this thread's own.</summary>
    /// <param name="slices">In 0..1.</param>
    /// <param name="moves">One per slice.</param>
    /// <param name="strength">0: nothing changes; 1: up to half blurred over 3 × 3, windows from two thirds to one and a half times as wide, brightness by 4 %, noise of up to 3 % of the window. Bone stays white.</param>
    public static Tensor Apply(Tensor slices, IReadOnlyList<Move> moves, float strength)
    {
        if (strength == 0)
            return slices;
        using var scope = NewDisposeScope();
        long count = slices.shape[0], size = slices.shape[1];
        float[] rows = [.. moves.SelectMany(m => new[] { m.XX, m.XY, m.X, m.YX, m.YY, m.Y })];
        var grid = nn.functional.affine_grid(tensor(rows).view(count, 2, 3), [count, 1, size, size], align_corners: false);
        var moved = nn.functional.grid_sample(slices.unsqueeze(1), grid, GridSampleMode.Bilinear, GridSamplePaddingMode.Zeros, align_corners: false);
        var blurred = nn.functional.avg_pool2d(moved, 3, stride: 1, padding: 1);
        moved = lerp(moved, blurred, TorchDevice.Uniform(count, 1, 1, 1) * Math.Min(1, 0.5 * strength));
        Tensor PerSlice(double spread) => (TorchDevice.Uniform(count, 1, 1) * 2 - 1) * (spread * strength);
        moved = moved.squeeze(1);
        var windowed = where(moved.gt(0.98), moved, (moved - 0.5) * PerSlice(0.4).exp() + 0.5 + PerSlice(0.04));
        var noise = TorchDevice.Normal(windowed.shape) * PerSlice(0.03);
        return (windowed + noise).clamp(0, 1).MoveToOuterDisposeScope();
    }
}
