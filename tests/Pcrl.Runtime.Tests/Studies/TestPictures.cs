using SkiaSharp;

namespace Pcrl.Runtime.Tests.Studies;

internal static class TestPictures
{
    public static byte[] Png(int width, int height, Func<int, byte> grey) => Grey(width, height, grey, SKEncodedImageFormat.Png);

    public static byte[] Grey(int width, int height, Func<int, byte> grey, SKEncodedImageFormat format)
    {
        using var bitmap = new SKBitmap(width, height, SKColorType.Gray8, SKAlphaType.Opaque);
        for (int i = 0; i < width * height; i++)
        {
            System.Runtime.InteropServices.Marshal.WriteByte(bitmap.GetPixels(), i / width * bitmap.RowBytes + i % width, grey(i));
        }
        return bitmap.Encode(format, 95).ToArray();
    }

    public static byte[] Colour(int width, int height, Func<int, SKColor> colour, SKEncodedImageFormat format)
    {
        using var bitmap = new SKBitmap(width, height, SKColorType.Rgba8888, SKAlphaType.Unpremul);
        for (int i = 0; i < width * height; i++)
        {
            bitmap.SetPixel(i % width, i / width, colour(i));
        }
        return bitmap.Encode(format, 95).ToArray();
    }
}
