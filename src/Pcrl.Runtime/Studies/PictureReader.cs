using SkiaSharp;

namespace Pcrl.Runtime.Studies;

/// <summary>A folder of PNG or JPEG pictures, one per slice, already windowed; file-name order is caudal to cranial unless <see cref="SliceOrder"/> sees the contrary.</summary>
internal static class PictureReader
{
    private const long MaximumFileBytes = 64 << 20;

    // Grey saved as colour JPEG strays by a few levels; a photo or a rendering does so by far and in many places.
    private const int ColourLevels = 32;
    private const double ColourShare = 0.01;

    public static Study Read(string folder, IReadOnlyList<StudyFile> files, List<SetAside> setAside, CancellationToken cancellation)
    {
        var sizes = StudyReader.ForEach(files, Size, cancellation);
        var common = sizes.GroupBy(s => s).OrderByDescending(g => g.Count()).Select(g => g.Key).FirstOrDefault();
        var kept = new List<StudyFile>();
        for (int i = 0; i < files.Count; i++)
        {
            if (sizes[i] == common)
            {
                kept.Add(files[i]);
            }
            else
            {
                setAside.Add(new SetAside(files[i].Source, "its size differs from most pictures'"));
            }
        }
        StudyReader.CheckCount(folder, kept.Count, (long)common.Width * common.Height, setAside);
        var slices = StudyReader.ForEach(kept, file =>
            new StudySlice(file.Source, Grey(file, common), float.NaN, float.NaN, float.NaN, float.NaN), cancellation);
        return SliceOrder.CaudalFirst(new Study("images", PixelUnit.Windowed, slices, setAside, 0, null));
    }

    private static SKSizeI Size(StudyFile file)
    {
        using var codec = Open(file);
        var info = codec.Info;
        if (StudyReader.SizeProblem(info.Width, info.Height) is { } problem)
        {
            throw new InputException(file.Path, problem);
        }
        if (codec.EncodedOrigin != SKEncodedOrigin.TopLeft)
        {
            // Turning a head by what a camera noted could swap left and right.
            throw new InputException(file.Path, "the picture says it is to be rotated or mirrored: save it upright");
        }
        return info.Size;
    }

    private static SKCodec Open(StudyFile file)
    {
        byte[] bytes = new FileInfo(file.Path).Length <= MaximumFileBytes
            ? File.ReadAllBytes(file.Path) : throw new InputException(file.Path, "too large for a picture of a CT slice");
        using var data = SKData.CreateCopy(bytes);
        return SKCodec.Create(data) ?? throw Damaged(file);
    }

    private static InputException Damaged(StudyFile file) => new(file.Path, "the picture is truncated or damaged");

    private static SlicePixels Grey(StudyFile file, SKSizeI size)
    {
        using var codec = Open(file);
        if (codec.Info.Size != size)
            throw new InputException(file.Path, "the file changed while it was read");
        var (width, height) = (size.Width, size.Height);
        byte[] grey = GC.AllocateUninitializedArray<byte>(width * height);
        if (codec.Info.ColorType == SKColorType.Gray8)
            Decode(file, codec, new SKImageInfo(width, height, SKColorType.Gray8, SKAlphaType.Opaque), grey);
        else
        {
            byte[] colours = GC.AllocateUninitializedArray<byte>(4 * grey.Length);
            // Premultiplied, so what is transparent becomes black.
            Decode(file, codec, new SKImageInfo(width, height, SKColorType.Rgba8888, SKAlphaType.Premul), colours);
            long coloured = 0;
            for (int i = 0; i < grey.Length; i++)
            {
                int r = colours[4 * i], g = colours[4 * i + 1], b = colours[4 * i + 2];
                coloured += Math.Max(r, Math.Max(g, b)) - Math.Min(r, Math.Min(g, b)) > ColourLevels ? 1 : 0;
                grey[i] = (byte)((r + g + b + 1) / 3);
            }
            if (coloured > ColourShare * grey.Length)
                throw new InputException(file.Path, "a colour picture, not a CT slice");
        }
        return SlicePixels.Of(grey, width);
    }

    private static unsafe void Decode(StudyFile file, SKCodec codec, SKImageInfo info, byte[] into)
    {
        fixed (byte* pixels = into)
        {
            if (codec.GetPixels(info, (nint)pixels) != SKCodecResult.Success)
                throw Damaged(file);
        }
    }
}
