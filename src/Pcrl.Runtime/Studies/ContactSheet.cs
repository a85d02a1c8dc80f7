using SkiaSharp;

namespace Pcrl.Runtime.Studies;

/// <summary>
/// The 24 chosen slices on one picture, for the eye: a column per layer, skull base left, vertex right. Each is labelled with index,
/// layer and source.
/// </summary>
public static class ContactSheet
{
    private const int Side = 192, Gap = 4, LabelHeight = 14, TextScale = 2;
    private static readonly SKColor LabelColour = new(255, 214, 102);

    /// <summary>Writes a PNG of 8 × 3 slices.</summary>
    /// <exception cref="InputException">The window does not apply to the study, or the file cannot be written.</exception>
    public static void Write(Study study, SliceSelection selection, WindowChoice window, string path)
    {
        float[] images = SliceImages.Prepare(study, selection, Side, window);
        int cellHeight = Side + LabelHeight + Gap;
        using var sheet = new SKBitmap(SliceSelector.Layers * (Side + Gap) + Gap, SliceSelector.SlicesPerLayer * cellHeight + Gap);
        sheet.Erase(new SKColor(24, 24, 28));
        foreach (var slice in selection.Slices)
        {
            int left = Gap + slice.Layer * (Side + Gap), top = Gap + slice.Index % SliceSelector.SlicesPerLayer * cellHeight;
            var pixels = images.AsSpan(slice.Index * Side * Side, Side * Side);
            for (int y = 0; y < Side; y++)
            {
                for (int x = 0; x < Side; x++)
                {
                    byte grey = (byte)(pixels[y * Side + x] * 255 + 0.5f);
                    sheet.SetPixel(left + x, top + LabelHeight + y, new SKColor(grey, grey, grey));
                }
            }
            string source = Path.GetFileName(slice.Source);
            int room = Side / (4 * TextScale) - 7; // the end of a long name tells more than its start
            DrawText(sheet, $"{slice.Index} L{slice.Layer} {(source.Length > room ? source[^room..] : source)}", left, top + 2);
        }
        using var data = sheet.Encode(SKEncodedImageFormat.Png, 100);
        AtomicFile.Write(path, data.SaveTo);
    }

    private static void DrawText(SKBitmap sheet, string text, int x, int y)
    {
        foreach (char letter in text.ToUpperInvariant())
        {
            if (Glyphs.TryGetValue(letter, out string? rows))
            {
                for (int row = 0; row < rows.Length; row++)
                {
                    for (int column = 0; column < 3; column++)
                    {
                        if ((rows[row] - '0' & 4 >> column) == 0)
                            continue;
                        for (int dot = 0; dot < TextScale * TextScale; dot++)
                            sheet.SetPixel(x + column * TextScale + dot % TextScale, y + row * TextScale + dot / TextScale, LabelColour);
                    }
                }
            }
            x += 4 * TextScale;
        }
    }

    /// <summary>
    /// A 3 × 5 dot alphabet, one octal digit a row: a bare machine has no fonts. Letters without a glyph leave a gap.
    /// </summary>
    private static readonly Dictionary<char, string> Glyphs = new()
    {
        ['0'] = "75557", ['1'] = "26227", ['2'] = "71747", ['3'] = "71717", ['4'] = "55711", ['5'] = "74717", ['6'] = "74757",
        ['7'] = "71122", ['8'] = "75757", ['9'] = "75717", ['A'] = "25755", ['B'] = "65656", ['C'] = "34443", ['D'] = "65556",
        ['E'] = "74647", ['F'] = "74644", ['G'] = "34553", ['H'] = "55755", ['I'] = "72227", ['J'] = "11152", ['K'] = "55655",
        ['L'] = "44447", ['M'] = "57755", ['N'] = "65555", ['O'] = "25552", ['P'] = "65644", ['Q'] = "25563", ['R'] = "65655",
        ['S'] = "34216", ['T'] = "72222", ['U'] = "55557", ['V'] = "55552", ['W'] = "55775", ['X'] = "55255", ['Y'] = "55222",
        ['Z'] = "71247", ['.'] = "00002", ['_'] = "00007", ['-'] = "00700", ['#'] = "57575", ['/'] = "11244", [':'] = "02020",
    };
}
