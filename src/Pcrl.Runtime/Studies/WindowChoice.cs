using System.Globalization;

namespace Pcrl.Runtime.Studies;

/// <summary>Which window maps Hounsfield units to 0..1.</summary>
/// <param name="Centre">Centre in HU; null where the series' own window is wanted.</param>
/// <param name="Width">Width in HU; null likewise.</param>
public sealed record WindowChoice(float? Centre, float? Width)
{
    /// <summary>The brain window of the method: centre 40, width 80.</summary>
    public static WindowChoice Brain { get; } = new(40, 80);

    /// <summary>The window that the series' header names.</summary>
    public static WindowChoice Series { get; } = new(null, null);

    /// <summary>Reads <c>brain</c>, <c>series</c> or <c>CENTRE/WIDTH</c>.</summary>
    /// <exception cref="InputException">Anything else, or a centre or width that no CT can have.</exception>
    public static WindowChoice Parse(string text)
    {
        if (text is "brain")
            return Brain;
        if (text is "series")
            return Series;
        string[] parts = text.Split('/');
        if (parts.Length == 2 && float.TryParse(parts[0], CultureInfo.InvariantCulture, out float centre)
            && float.TryParse(parts[1], CultureInfo.InvariantCulture, out float width)
            && MathF.Abs(centre) < 100_000 && width is >= 1 and < 100_000)
            return new WindowChoice(centre, width);
        throw new InputException("--window", $"must be brain, series or CENTRE/WIDTH such as 40/80, is '{text}'");
    }

    /// <summary>Factor and offset that map a study's pixels to 0..1 before clamping: <c>pixel · Scale + Offset</c>.</summary>
    /// <exception cref="InputException">The series names no window, or the study consists of pictures that are windowed already.</exception>
    public (float Scale, float Offset) Resolve(Study study)
    {
        if (study.Unit == PixelUnit.Windowed)
        {
            return this == Brain
                ? (1f / 255, 0)
                : throw new InputException("--window", "the study consists of pictures that are windowed already");
        }
        var (centre, width) = Centre is { } c && Width is { } w
            ? (c, w)
            : study.SeriesWindow ?? throw new InputException("--window", "the series names no window of its own");
        return (1 / width, 0.5f - centre / width);
    }
}
