using Pcrl.Runtime;
using SkiaSharp;

namespace Pcrl.Train.Fitting;

/// <summary>Draws how a joint fit went: its losses above, the CE-F1 of the validation studies below.</summary>
internal static class FitCurves
{
    private const int Width = 960, Panel = 300, Margin = 56, Legend = 20;

    /// <summary>Writes a PNG.</summary>
    /// <exception cref="InputException">The file cannot be written.</exception>
    public static void Write(FitHistory history, string path)
    {
        using var bitmap = new SKBitmap(Width, 2 * Panel);
        using (var canvas = new SKCanvas(bitmap))
        {
            canvas.Clear(SKColors.White);
            var steps = history.Steps;
            (string, SKColor, List<(double, double)>) Line(string name, SKColor colour, Func<StepRecord, double> value) =>
                (name, colour, Smooth([.. steps.Select(s => ((double)s.Step, value(s)))]));
            Draw(canvas, 0, "loss (running mean)", steps.Count,
            [
                Line("total", SKColors.Black, s => s.Loss),
                Line("report", SKColors.RoyalBlue, s => s.Parts.Report),
                Line("segmentation", SKColors.SeaGreen, s => s.Parts.Segmentation),
                Line("entity", SKColors.DarkOrange, s => s.Parts.Entity),
                Line("theme", SKColors.MediumVioletRed, s => s.Parts.Theme),
                ("validation", SKColors.Gray, [.. history.Epochs.Select(e => ((double)e.Step, e.Loss))]),
            ]);
            Draw(canvas, Panel, "validation CE-F1", steps.Count, [("CE-F1", SKColors.Black, [.. history.Epochs.Select(e => ((double)e.Step, e.CeF1))])]);
        }
        using var data = bitmap.Encode(SKEncodedImageFormat.Png, 100);
        AtomicFile.Write(path, stream => data.SaveTo(stream));
    }

    private static void Draw(SKCanvas canvas, int top, string title, int steps, (string Name, SKColor Colour, List<(double Step, double Value)> Points)[] lines)
    {
        var values = lines.SelectMany(l => l.Points).Select(p => p.Value).DefaultIfEmpty(0).ToList();
        double low = Math.Min(0, values.Min()), high = Math.Max(low + 1e-3, values.Max());
        SKPoint At(double step, double value) => new(
            (float)(Margin + (Width - 2 * Margin) * step / Math.Max(1, steps)), (float)(top + Panel - Margin - (Panel - 2 * Margin) * (value - low) / (high - low)));
        using var paint = new SKPaint { IsAntialias = true, TextSize = 13, StrokeWidth = 1, Color = SKColors.DarkGray };
        canvas.DrawLine(At(0, low), At(steps, low), paint);
        canvas.DrawLine(At(0, low), At(0, high), paint);
        canvas.DrawText(high.ToString("0.##", System.Globalization.CultureInfo.InvariantCulture), 8, At(0, high).Y + 4, paint);
        canvas.DrawText(low.ToString("0.##", System.Globalization.CultureInfo.InvariantCulture), 8, At(0, low).Y + 4, paint);
        canvas.DrawText(steps + " steps", Width - 2 * Margin, top + Panel - Margin + 20, paint);
        paint.Color = SKColors.Black;
        canvas.DrawText(title, Margin, top + Legend, paint);
        float x = Margin;
        foreach (var (name, colour, points) in lines.Where(l => l.Points.Exists(p => p.Value != 0)))
        {
            paint.Color = colour;
            canvas.DrawText(name, x, top + 2 * Legend, paint);
            x += paint.MeasureText(name) + 16;
            for (int i = 1; i < points.Count; i++)
                canvas.DrawLine(At(points[i - 1].Step, points[i - 1].Value), At(points[i].Step, points[i].Value), paint);
        }
    }

    private static List<(double, double)> Smooth(List<(double Step, double Value)> points)
    {
        var smooth = new List<(double, double)>();
        double mean = 0;
        foreach (var (step, value) in points)
        {
            mean = smooth.Count == 0 ? value : mean + 0.1 * (value - mean);
            smooth.Add((step, mean));
        }
        return smooth;
    }
}
