using System.Text;
using Pcrl.Runtime;

namespace Pcrl.Train.Evaluation;

/// <summary>Rows of a CSV or TSV file as RFC 4180 has them: quoted fields may hold separators, line ends and doubled quotes.</summary>
internal sealed class SeparatedValues(string path, TextReader reader, char separator, int longestRow)
{
    private readonly StringBuilder _field = new();

    /// <summary>The line the last row ended on, from 1.</summary>
    public int Line { get; private set; }

    /// <summary>The next row, or null at the end.</summary>
    /// <exception cref="InputException">A quote is not closed or stands inside a field, or a row is too long.</exception>
    public List<string>? Next()
    {
        if (reader.Peek() < 0)
            return null;
        var row = new List<string>();
        int length = 0;
        Line++;
        while (true)
        {
            int next = reader.Peek() == '"' ? Quoted() : Plain();
            row.Add(_field.ToString());
            length += _field.Length + 1;
            if (length > longestRow)
                throw TooLong();
            if (next != separator)
                return row;
        }
    }

    /// <summary>Reads a field into the buffer and returns the character after it: separator, line end or -1.</summary>
    private int Plain()
    {
        _field.Clear();
        while (true)
        {
            int c = reader.Read();
            if (c < 0 || c == separator || c == '\n')
                return c;
            if (c == '\r')
            {
                if (reader.Peek() == '\n')
                    reader.Read();
                return '\n';
            }
            Append((char)c);
        }
    }

    private int Quoted()
    {
        int opened = Line;
        _field.Clear();
        reader.Read();
        while (true)
        {
            int c = reader.Read();
            if (c < 0)
                throw new InputException(path, $"the quote opened on line {opened} is never closed");
            if (c == '\n')
                Line++;
            if (c != '"')
            {
                Append((char)c);
                continue;
            }
            if (reader.Peek() == '"')
            {
                reader.Read();
                Append('"');
                continue;
            }
            string field = _field.ToString();
            int next = Plain();
            if (_field.Length > 0)
                throw new InputException(path, $"line {Line} has text after a closing quote");
            _field.Append(field);
            return next;
        }
    }

    private void Append(char c)
    {
        if (_field.Length == longestRow)
            throw TooLong();
        _field.Append(c);
    }

    private InputException TooLong() => new(path, $"the record on line {Line} is larger than {longestRow >> 20} MB");
}
