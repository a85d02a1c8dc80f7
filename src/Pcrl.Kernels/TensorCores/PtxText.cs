using System.Globalization;
using System.Text;

namespace Pcrl.Kernels.TensorCores;

/// <summary>The body of a PTX kernel while it is written. Every result gets a register of its own; the driver's compiler shares them out.</summary>
internal abstract class PtxText
{
    private readonly StringBuilder _text = new();
    private readonly Dictionary<string, int> _registers = [];

    /// <summary>The registers and what was written.</summary>
    protected string Body()
    {
        var body = new StringBuilder();
        foreach (var (type, count) in _registers)
            body.AppendLine(CultureInfo.InvariantCulture, $"\t.reg .{(type == "p" ? "pred" : type)} {Prefix(type)}<{count}>;");
        return body.Append(_text).ToString();
    }

    /// <summary>A new register: b16, b32, b64, f32 or p for a predicate.</summary>
    protected string New(string type)
    {
        int number = _registers.GetValueOrDefault(type);
        _registers[type] = number + 1;
        return $"{Prefix(type)}{number}";
    }

    /// <summary>An instruction whose result is a new 32-bit register.</summary>
    protected string Int(string instruction, params ReadOnlySpan<string> operands)
    {
        string register = New("b32");
        Emit($"{instruction} {register}, {string.Join(", ", operands!)};");
        return register;
    }

    protected void Label(string name) => _text.Append(name).AppendLine(":");

    protected void Emit(string line) => _text.Append('\t').AppendLine(line);

    private static string Prefix(string type) => type switch { "b16" => "%h", "b32" => "%r", "b64" => "%d", "f32" => "%f", _ => "%p" };
}
