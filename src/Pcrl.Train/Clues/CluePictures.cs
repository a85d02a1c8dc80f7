using System.Globalization;
using System.Net;
using System.Text;
using Pcrl.Runtime;
using Pcrl.Runtime.Studies;
using SkiaSharp;

namespace Pcrl.Train.Clues;

/// <summary>
/// Shows clues to the eye: the mask gallery of a study (the paper's Figure 4) and the report beside the retrieved masks (Figure 3), as PNG, and
/// both in one HTML file that needs nothing else. The PNG has the report's text only where this machine has a Chinese font.
/// </summary>
public static class CluePictures
{
    private const int Side = 192, Gap = 4, Columns = 6, LetterSize = 20, LineHeight = 32;
    private static readonly SKColor Ink = new(228, 228, 232);
    private static readonly SKColor Background = new(24, 24, 28);

    /// <summary>Writes <c>ID.gallery.png</c>, <c>ID.report.png</c> and <c>ID.report.html</c>.</summary>
    /// <exception cref="InputException">The folder cannot be written.</exception>
    public static void Write(ClueStudy study, StudyClues clues, string folder)
    {
        OutputFolder.Make(folder);
        using var gallery = Gallery(study, clues);
        using var found = Found(study, clues);
        byte[] galleryPng = Png(gallery), foundPng = Png(found);
        string Name(string suffix) => Path.Combine(folder, study.Id + suffix);
        AtomicFile.Write(Name(".gallery.png"), stream => stream.Write(galleryPng));
        AtomicFile.Write(Name(".report.png"), stream => stream.Write(foundPng));
        AtomicFile.WriteText(Name(".report.html"), Html(study, clues, galleryPng));
    }

    /// <summary>A column per layer, skull base left; every mask of the gallery in a colour of its own, the largest below.</summary>
    private static SKBitmap Gallery(ClueStudy study, StudyClues clues)
    {
        var sheet = new SKBitmap(SliceSelector.Layers * (Side + Gap) + Gap, SliceSelector.SlicesPerLayer * (Side + Gap) + Gap);
        sheet.Erase(Background);
        for (int s = 0; s < SliceSelector.Count; s++)
        {
            var masks = clues.Galleries[s].Select((_, m) => (clues.Mask(s, m), Colour(m, Math.Max(1, clues.Galleries[s].Count)))).ToList();
            Draw(sheet, Gap + s / SliceSelector.SlicesPerLayer * (Side + Gap), Gap + s % SliceSelector.SlicesPerLayer * (Side + Gap), study, s, masks);
        }
        return sheet;
    }

    /// <summary>The findings with their entities in colours, and below them the slices on which these were found, each mask in its entity's colour.</summary>
    private static SKBitmap Found(ClueStudy study, StudyClues clues)
    {
        int[] slices = [.. clues.Entities.Where(e => e.Slice >= 0).Select(e => e.Slice).Distinct().Order()];
        int rows = (slices.Length + Columns - 1) / Columns;
        const int width = Columns * (Side + Gap) + Gap;
        using var font = ChineseFont();
        var letters = font is null ? [] : Letters(clues, width - 4 * Gap);
        int top = letters.Count == 0 ? 0 : letters[^1].Line * LineHeight + LineHeight + 2 * Gap;
        var sheet = new SKBitmap(width, Math.Max(1, top + rows * (Side + Gap) + Gap));
        sheet.Erase(Background);
        for (int i = 0; i < slices.Length; i++)
            Draw(sheet, Gap + i % Columns * (Side + Gap), top + Gap + i / Columns * (Side + Gap), study, slices[i], MasksOn(clues, slices[i]));
        using var canvas = new SKCanvas(sheet);
        foreach (var (letter, entity, x, line) in letters)
        {
            using var paint = new SKPaint { Typeface = font, TextSize = LetterSize, IsAntialias = true, Color = entity < 0 ? Ink : Colour(entity, clues.Entities.Count) };
            canvas.DrawText(letter, 2 * Gap + x, (line + 0.75f) * LineHeight, paint);
        }
        return sheet;
    }

    /// <summary>Where every letter of the findings stands: full width, or half of it for Latin ones.</summary>
    private static List<(string Letter, int Entity, int X, int Line)> Letters(StudyClues clues, int width)
    {
        var letters = new List<(string, int, int, int)>();
        int x = 0, line = 0;
        foreach (var (text, entity) in Words(clues))
        {
            foreach (char c in text)
            {
                int advance = c < 256 ? LetterSize / 2 + 1 : LetterSize;
                if (x + advance > width)
                    (x, line) = (0, line + 1);
                letters.Add((c.ToString(), entity, x, line));
                x += advance;
            }
        }
        return letters;
    }

    private static SKTypeface? ChineseFont() => SKFontManager.Default.FontFamilies.Order(StringComparer.Ordinal)
        .Select(SKTypeface.FromFamilyName).FirstOrDefault(font => font?.ContainsGlyph('脑') == true);

    private static List<(RunLengthMask, SKColor)> MasksOn(StudyClues clues, int slice) =>
        [.. clues.Entities.Select((e, i) => (Entity: e, Index: i)).Where(p => p.Entity.Slice == slice)
            .Select(p => (clues.Mask(slice, p.Entity.Mask), Colour(p.Index, clues.Entities.Count)))];

    /// <summary>Colours far apart on the circle of hues.</summary>
    private static SKColor Colour(int index, int count) => SKColor.FromHsl(360f * index / count, 85, 60);

    private static void Draw(SKBitmap sheet, int left, int top, ClueStudy study, int slice, List<(RunLengthMask Mask, SKColor Colour)> masks)
    {
        var grey = study.Slice(slice);
        var decoded = masks.ConvertAll(m => (Mask: m.Mask.Decode(), m.Colour));
        int At(int x, int y) => y * study.ImageSize / Side * study.ImageSize + x * study.ImageSize / Side;
        for (int y = 0; y < Side; y++)
        {
            for (int x = 0; x < Side; x++)
            {
                int at = At(x, y);
                var pixel = new SKColor(grey[at], grey[at], grey[at]);
                foreach (var (mask, colour) in decoded)
                {
                    // An edge is one pixel of the sheet wide, however coarse the mask.
                    bool edge = x == 0 || y == 0 || x == Side - 1 || y == Side - 1
                        || !mask[At(x - 1, y)] || !mask[At(x + 1, y)] || !mask[At(x, y - 1)] || !mask[At(x, y + 1)];
                    if (mask[at])
                        pixel = Mix(pixel, colour, edge ? 0.9f : 0.3f);
                }
                sheet.SetPixel(left + x, top + y, pixel);
            }
        }
    }

    private static SKColor Mix(SKColor below, SKColor above, float share)
    {
        byte Channel(byte a, byte b) => (byte)(a + (b - a) * share);
        return new SKColor(Channel(below.Red, above.Red), Channel(below.Green, above.Green), Channel(below.Blue, above.Blue));
    }

    private static byte[] Png(SKBitmap bitmap)
    {
        using var data = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        return data.ToArray();
    }

    private static string Html(ClueStudy study, StudyClues clues, byte[] gallery)
    {
        var html = new StringBuilder();
        string Css(int index) => $"hsl({(360.0 * index / Math.Max(1, clues.Entities.Count)).ToString("0", CultureInfo.InvariantCulture)} 85% 60%)";
        html.Append($$"""
            <!DOCTYPE html><html lang="zh"><head><meta charset="utf-8"><title>{{WebUtility.HtmlEncode(study.Id)}}</title><style>
            body{background:#18181c;color:#e4e4e8;font:16px/1.7 sans-serif;max-width:1180px;margin:2em auto;padding:0 1em}
            b{font-weight:600}figure{display:inline-block;margin:0 8px 8px 0;vertical-align:top;width:{{Side}}px}
            figcaption{font-size:13px}img{max-width:100%;image-rendering:pixelated}.note{color:#98989f;font-size:13px}
            </style></head><body><h1>{{WebUtility.HtmlEncode(study.Id)}}</h1>
            <p class="note">Masks retrieved automatically, unverified; not for diagnosis.</p><h2>Findings</h2><p>
            """);
        foreach (var (text, entity) in Words(clues))
            html.Append(entity < 0 ? WebUtility.HtmlEncode(text) : $"<b style=\"color:{Css(entity)}\">{WebUtility.HtmlEncode(text)}</b>");
        html.Append("</p><h2>Entities on their slices</h2>");
        foreach (int slice in clues.Entities.Where(e => e.Slice >= 0).Select(e => e.Slice).Distinct().Order())
        {
            using var picture = new SKBitmap(Side, Side);
            Draw(picture, 0, 0, study, slice, MasksOn(clues, slice));
            var names = clues.Entities.Select((e, i) => (e, i)).Where(p => p.e.Slice == slice)
                .Select(p => $"<b style=\"color:{Css(p.i)}\">{WebUtility.HtmlEncode(p.e.Entity)}</b>");
            html.Append($"<figure><img src=\"data:image/png;base64,{Convert.ToBase64String(Png(picture))}\" alt=\"slice {slice}\">")
                .Append($"<figcaption>slice {slice}: {string.Join(" ", names)}</figcaption></figure>");
        }
        var without = clues.Entities.Where(e => e.Slice < 0).Select(e => WebUtility.HtmlEncode(e.Entity)).ToList();
        if (without.Count > 0)
            html.Append($"<p class=\"note\">No mask: {string.Join(" ", without)}</p>");
        return html.Append($"<h2>Gallery</h2><img src=\"data:image/png;base64,{Convert.ToBase64String(gallery)}\" alt=\"mask gallery\"></body></html>\n").ToString();
    }

    /// <summary>The findings letter by letter, but the names of entities whole and with their number (−1 for other text).</summary>
    private static IEnumerable<(string Text, int Entity)> Words(StudyClues clues)
    {
        var names = clues.Entities.Select((e, i) => (e.Entity, Index: i)).OrderByDescending(p => p.Entity.Length).ToList();
        for (int at = 0; at < clues.Theme.Length;)
        {
            int found = names.FindIndex(p => string.CompareOrdinal(clues.Theme, at, p.Entity, 0, p.Entity.Length) == 0);
            string text = found < 0 ? clues.Theme[at].ToString() : names[found].Entity;
            yield return (text, found < 0 ? -1 : names[found].Index);
            at += text.Length;
        }
    }
}
