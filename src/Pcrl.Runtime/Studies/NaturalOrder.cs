namespace Pcrl.Runtime.Studies;

/// <summary>File names as people count them: 2 before 10, 02 with 2.</summary>
internal static class NaturalOrder
{
    public static int Compare(string a, string b)
    {
        int i = 0, j = 0;
        while (i < a.Length && j < b.Length)
        {
            int order;
            if (char.IsAsciiDigit(a[i]) && char.IsAsciiDigit(b[j]))
            {
                var x = Digits(a, ref i);
                var y = Digits(b, ref j);
                order = x.Length != y.Length ? x.Length - y.Length : x.CompareTo(y, StringComparison.Ordinal);
            }
            else
            {
                order = char.ToLowerInvariant(a[i++]) - char.ToLowerInvariant(b[j++]);
            }
            if (order != 0)
            {
                return order;
            }
        }
        int rest = (a.Length - i) - (b.Length - j);
        return rest != 0 ? rest : string.CompareOrdinal(a, b);
    }

    // The run of digits at i, without leading zeros, so that length and then text order it however long it is.
    private static ReadOnlySpan<char> Digits(string text, ref int i)
    {
        int start = i;
        while (i < text.Length && char.IsAsciiDigit(text[i]))
        {
            i++;
        }
        return text.AsSpan(start, i - start).TrimStart('0');
    }
}
