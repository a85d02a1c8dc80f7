using System.Text;

namespace Pcrl.Train.Clues;

/// <summary>
/// A binary mask as run lengths down the columns, zeros first: COCO's form, so that other tools read what is written here.
/// </summary>
/// <param name="Height">Rows.</param>
/// <param name="Width">Columns.</param>
/// <param name="Counts">Lengths of alternating runs of zeros and ones; their sum is Height · Width.</param>
public sealed record RunLengthMask(int Height, int Width, int[] Counts)
{
    /// <summary>Pixels of the mask.</summary>
    public int Area => Counts.Where((_, i) => i % 2 == 1).Sum();

    /// <summary>Encodes a row-major mask [height, width].</summary>
    public static RunLengthMask Encode(ReadOnlySpan<bool> mask, int height, int width)
    {
        if (mask.Length != height * width)
            throw new ArgumentException($"{mask.Length} pixels for {height} × {width}", nameof(mask));
        var counts = new List<int>();
        bool current = false;
        int run = 0;
        for (int x = 0; x < width; x++)
        {
            for (int y = 0; y < height; y++)
            {
                if (mask[y * width + x] != current)
                {
                    counts.Add(run);
                    (run, current) = (0, !current);
                }
                run++;
            }
        }
        counts.Add(run);
        return new RunLengthMask(height, width, [.. counts]);
    }

    /// <summary>The mask, row-major [Height, Width].</summary>
    public bool[] Decode()
    {
        var mask = new bool[Height * Width];
        int at = 0;
        for (int i = 0; i < Counts.Length; i++)
        {
            if (i % 2 == 1)
            {
                for (int p = at; p < at + Counts[i]; p++)
                    mask[p % Height * Width + p / Height] = true;
            }
            at += Counts[i];
        }
        return mask;
    }

    /// <summary>COCO's compressed text: differences to the count before last, five bits a character.</summary>
    public string ToText()
    {
        var text = new StringBuilder();
        for (int i = 0; i < Counts.Length; i++)
        {
            long value = i > 2 ? Counts[i] - (long)Counts[i - 2] : Counts[i];
            bool more;
            do
            {
                int bits = (int)(value & 0x1f);
                value >>= 5;
                more = (bits & 0x10) != 0 ? value != -1 : value != 0;
                text.Append((char)(48 + bits + (more ? 0x20 : 0)));
            }
            while (more);
        }
        return text.ToString();
    }

    /// <summary>Reads what <see cref="ToText"/> wrote.</summary>
    /// <exception cref="FormatException">Not COCO's text, or its runs don't fill the mask exactly.</exception>
    public static RunLengthMask Parse(string text, int height, int width)
    {
        if (height <= 0 || width <= 0 || height > 1 << 15 || width > 1 << 15)
            throw new FormatException("a mask of impossible size");
        var counts = new List<int>();
        long total = 0;
        for (int at = 0; at < text.Length;)
        {
            long value = 0;
            int shift = 0, bits;
            do
            {
                if (at == text.Length || shift > 30)
                    throw new FormatException("broken run lengths");
                bits = text[at++] - 48;
                if (bits is < 0 or > 63)
                    throw new FormatException("broken run lengths");
                value |= (long)(bits & 0x1f) << shift;
                shift += 5;
            }
            while ((bits & 0x20) != 0);
            if ((bits & 0x10) != 0)
                value |= -1L << shift;
            if (counts.Count > 2)
                value += counts[^2];
            if (value < 0 || (total += value) > (long)height * width)
                throw new FormatException("run lengths that don't fill the mask");
            counts.Add((int)value);
        }
        if (total != (long)height * width)
            throw new FormatException("run lengths that don't fill the mask");
        return new RunLengthMask(height, width, [.. counts]);
    }
}
