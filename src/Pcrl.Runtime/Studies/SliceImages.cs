namespace Pcrl.Runtime.Studies;

/// <summary>Turns chosen slices into the network's input. Training and runtime share this code, so they cannot drift apart.</summary>
public static class SliceImages
{
    private const int ParallelFrom = 1 << 21; // pixels read and made

    /// <summary>
    /// Windows, crops a square around the head (the same for all slices, so that the head has the same scale in every study) and
    /// resizes with an antialiasing triangle filter.
    /// </summary>
    /// <param name="study">The study.</param>
    /// <param name="selection">The choice of <see cref="SliceSelector"/> for this study.</param>
    /// <param name="imageSize">Side S of the output.</param>
    /// <param name="window">Window for Hounsfield input.</param>
    /// <returns>[24, S, S], 0 (black) to 1 (white).</returns>
    /// <exception cref="InputException">The window cannot be applied to this study.</exception>
    public static float[] Prepare(Study study, SliceSelection selection, int imageSize, WindowChoice window)
    {
        var (scale, offset) = window.Resolve(study);
        var chosen = selection.Slices.Select(s => study.Slices[s.Slice]).ToArray();
        // Of nearly every study all slices have one geometry.
        var filters = chosen.DistinctBy(Geometry).ToDictionary(Geometry, slice => new CropFilter(slice, selection.HeadBox, imageSize));
        var images = new float[chosen.Length * imageSize * imageSize];
        int plane = imageSize * imageSize;
        void One(int i) => filters[Geometry(chosen[i])].Apply(chosen[i].Pixels, scale, offset, images.AsSpan(i * plane, plane));
        // Training prepares small slices on its own threads: there more threads cost more than they bring.
        if (images.Length + chosen.Sum(s => (long)s.Width * s.Height) >= ParallelFrom)
            Parallel.For(0, chosen.Length, One);
        else
        {
            for (int i = 0; i < chosen.Length; i++)
                One(i);
        }
        return images;

        static (int, int, float, float) Geometry(StudySlice slice) => (slice.Width, slice.Height, slice.PixelSpacingX, slice.PixelSpacingY);
    }
}
