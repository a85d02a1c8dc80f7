using System.Buffers.Binary;
using System.Globalization;
using System.Numerics;
using System.Text;
using Pcrl.Runtime;

namespace Pcrl.Train.Checkpoints;

/// <summary>
/// Reads the pickles of PyTorch checkpoints without being able to do anything else. A pickle is a program: it may name any function of the
/// Python that loads it. Here it may build numbers, strings, lists, dictionaries and tuples, and call the few functions that
/// rebuild tensors, which are re-made below; the first other name or instruction ends the reading with an error that names it.
/// Instructions are those of the pickle protocols 0 to 4 as Python's documentation (module pickletools) describes them.
/// </summary>
internal ref struct PickleReader
{
    /// <summary>A pickle of weights holds names and shapes, not the data: megabytes at most.</summary>
    private const int MaximumBytes = 64 << 20;

    private static readonly Dictionary<string, string> StorageTypes = new()
    {
        ["DoubleStorage"] = "F64",
        ["FloatStorage"] = "F32",
        ["HalfStorage"] = "F16",
        ["BFloat16Storage"] = "BF16",
        ["LongStorage"] = "I64",
        ["IntStorage"] = "I32",
        ["ShortStorage"] = "I16",
        ["CharStorage"] = "I8",
        ["ByteStorage"] = "U8",
        ["BoolStorage"] = "BOOL",
    };

    private static readonly HashSet<string> Functions =
    [
        "collections.OrderedDict", "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_parameter", "torch.Size",
    ];

    private static readonly object Mark = new();

    private readonly string _source;
    private readonly ReadOnlySpan<byte> _bytes;
    private readonly List<object?> _stack = [];
    private readonly Dictionary<long, object?> _memo = [];

    /// <param name="source">Named in errors.</param>
    /// <param name="bytes">The pickle; more may follow behind its end.</param>
    public PickleReader(string source, ReadOnlySpan<byte> bytes)
    {
        _source = source;
        _bytes = bytes.Length > MaximumBytes ? bytes[..MaximumBytes] : bytes;
    }

    /// <summary>Bytes read so far; behind <see cref="Read"/>, the length of the pickle.</summary>
    public int Position { get; private set; }

    /// <summary>
    /// The pickled object: null, bool, long, BigInteger, double, string, byte[], <c>object[]</c> (tuple), <c>List</c>, <c>Dictionary</c>,
    /// <see cref="PickledStorage"/> or <see cref="PickledTensor"/>, nested in any way, loops included.
    /// </summary>
    /// <exception cref="InputException">Truncated, nonsense, or wants something that weights don't need.</exception>
    public object? Read()
    {
        while (true)
        {
            byte code = Take(1)[0];
            if (code == '.')
                return Pop();
            Execute(code);
        }
    }

    private void Execute(byte code)
    {
        switch (code)
        {
            case 0x80: // PROTO
                if (Take(1)[0] > 4)
                    throw Broken("is of a newer protocol than 4");
                break;
            case 0x95: // FRAME: a hint for buffering
                Take(8);
                break;
            case (byte)'(':
                _stack.Add(Mark);
                break;
            case (byte)'0':
                Pop();
                break;
            case (byte)'1':
                PopMark();
                break;
            case (byte)'2':
                _stack.Add(Peek());
                break;
            case (byte)'N':
                _stack.Add(null);
                break;
            case 0x88:
                _stack.Add(true);
                break;
            case 0x89:
                _stack.Add(false);
                break;
            case (byte)'J' or (byte)'K' or (byte)'M' or 0x8a or (byte)'I' or (byte)'L' or (byte)'G' or (byte)'F':
                _stack.Add(Number(code));
                break;
            case (byte)'X' or 0x8c or 0x8d or (byte)'U' or (byte)'T' or (byte)'S' or (byte)'V' or (byte)'B' or (byte)'C':
                _stack.Add(Text(code));
                break;
            case (byte)'p' or (byte)'q' or (byte)'r' or 0x94:
                _memo[MemoIndex(code)] = Peek();
                break;
            case (byte)'g' or (byte)'h' or (byte)'j':
                _stack.Add(_memo.TryGetValue(MemoIndex(code), out object? kept) ? kept : throw Broken("recalls what it never stored"));
                break;
            case (byte)']' or (byte)'l' or (byte)'a' or (byte)'e' or (byte)'}' or (byte)'d' or (byte)'s' or (byte)'u'
                or (byte)')' or (byte)'t' or 0x85 or 0x86 or 0x87:
                Container(code);
                break;
            case (byte)'c':
                string module = Encoding.UTF8.GetString(Line());
                _stack.Add(Global(module, Encoding.UTF8.GetString(Line())));
                break;
            case 0x93: // STACK_GLOBAL
                string name = Pop<string>();
                _stack.Add(Global(Pop<string>(), name));
                break;
            case (byte)'Q':
                _stack.Add(Persistent(Pop<object?[]>()));
                break;
            case (byte)'R':
                object?[] arguments = Pop<object?[]>();
                _stack.Add(Call(Pop<PickledGlobal>().Name, arguments));
                break;
            case (byte)'b': // BUILD: an OrderedDict brings its attributes (_metadata), which nothing here reads
                Pop();
                if (Peek() is not Dictionary<object, object?>)
                    throw Broken("sets attributes of something that is not a dictionary");
                break;
            default:
                throw Refused($"the pickle instruction 0x{code:x2}");
        }
    }

    private object Number(byte code)
    {
        switch (code)
        {
            case (byte)'J':
                return (long)BinaryPrimitives.ReadInt32LittleEndian(Take(4));
            case (byte)'K':
                return (long)Take(1)[0];
            case (byte)'M':
                return (long)BinaryPrimitives.ReadUInt16LittleEndian(Take(2));
            case (byte)'G':
                return BinaryPrimitives.ReadDoubleBigEndian(Take(8));
            case 0x8a:
                var integer = new BigInteger(Take(Take(1)[0]));
                return integer >= long.MinValue && integer <= long.MaxValue ? (object)(long)integer : integer;
        }
        string text = Encoding.ASCII.GetString(Line());
        if (code == 'F')
            return double.TryParse(text, CultureInfo.InvariantCulture, out double real) ? real : throw Broken("has a number that is none");
        if (code == 'I' && text is "00" or "01")
            return text == "01";
        return long.TryParse(text.TrimEnd('L'), CultureInfo.InvariantCulture, out long whole) ? whole : throw Broken("has a number that is none");
    }

    private object Text(byte code)
    {
        switch (code)
        {
            case (byte)'X':
                return Encoding.UTF8.GetString(Take(BinaryPrimitives.ReadUInt32LittleEndian(Take(4))));
            case 0x8c:
                return Encoding.UTF8.GetString(Take(Take(1)[0]));
            case 0x8d:
                ulong length = BinaryPrimitives.ReadUInt64LittleEndian(Take(8));
                return Encoding.UTF8.GetString(Take((long)Math.Min(length, long.MaxValue)));
            case (byte)'U': // Python 2 strings: names in practice
                return Encoding.Latin1.GetString(Take(Take(1)[0]));
            case (byte)'T':
                return Encoding.Latin1.GetString(Take(BinaryPrimitives.ReadUInt32LittleEndian(Take(4))));
            case (byte)'B':
                return Take(BinaryPrimitives.ReadUInt32LittleEndian(Take(4))).ToArray();
            case (byte)'C':
                return Take(Take(1)[0]).ToArray();
            case (byte)'S':
                return Encoding.Latin1.GetString(Line()).Trim('\'', '"');
            default:
                return Encoding.UTF8.GetString(Line());
        }
    }

    private long MemoIndex(byte code)
    {
        switch (code)
        {
            case (byte)'q' or (byte)'h':
                return Take(1)[0];
            case (byte)'r' or (byte)'j':
                return BinaryPrimitives.ReadUInt32LittleEndian(Take(4));
            case 0x94:
                return _memo.Count;
            default:
                return long.TryParse(Encoding.ASCII.GetString(Line()), CultureInfo.InvariantCulture, out long index)
                    ? index : throw Broken("has a number that is none");
        }
    }

    private void Container(byte code)
    {
        switch (code)
        {
            case (byte)']':
                _stack.Add(new List<object?>());
                break;
            case (byte)'l':
                _stack.Add(PopMark().ToList());
                break;
            case (byte)'a':
                object? item = Pop();
                Peek<List<object?>>().Add(item);
                break;
            case (byte)'e':
                object?[] items = PopMark();
                Peek<List<object?>>().AddRange(items);
                break;
            case (byte)'}':
                _stack.Add(new Dictionary<object, object?>());
                break;
            case (byte)'d':
                object?[] content = PopMark();
                var dictionary = new Dictionary<object, object?>();
                SetItems(dictionary, content);
                _stack.Add(dictionary);
                break;
            case (byte)'s':
                object? value = Pop(), key = Pop();
                SetItems(Peek<Dictionary<object, object?>>(), [key, value]);
                break;
            case (byte)'u':
                object?[] pairs = PopMark();
                SetItems(Peek<Dictionary<object, object?>>(), pairs);
                break;
            case (byte)')':
                _stack.Add(Array.Empty<object?>());
                break;
            case (byte)'t':
                _stack.Add(PopMark());
                break;
            default: // TUPLE1 to TUPLE3
                var tuple = new object?[code - 0x84];
                for (int i = tuple.Length - 1; i >= 0; i--)
                    tuple[i] = Pop();
                _stack.Add(tuple);
                break;
        }
    }

    private readonly void SetItems(Dictionary<object, object?> dictionary, ReadOnlySpan<object?> pairs)
    {
        if (pairs.Length % 2 != 0)
            throw Broken("has a key without a value");
        for (int i = 0; i < pairs.Length; i += 2)
            dictionary[pairs[i] ?? throw Broken("has an empty key")] = pairs[i + 1];
    }

    private readonly PickledGlobal Global(string module, string name)
    {
        string full = $"{module}.{name}";
        bool storage = module is "torch" or "torch.storage" && StorageTypes.ContainsKey(name);
        return storage || Functions.Contains(full) ? new PickledGlobal(full) : throw Refused(Printable(full));
    }

    private readonly PickledStorage Persistent(object?[] id)
    {
        if (id is not ["storage", PickledGlobal type, string key, string, long count, ..]
            || !StorageTypes.TryGetValue(type.Name[(type.Name.LastIndexOf('.') + 1)..], out string? elements) || count < 0)
            throw Broken("refers to something that is not a storage");
        // The oldest format: a sixth item may make this a view into another storage.
        if (id is [_, _, _, _, _, object?[] view])
        {
            if (view is not [string, long first, long viewed] || first < 0 || viewed < 0 || first > count || viewed > count - first)
                throw Broken("has a view outside its storage");
            return new PickledStorage(elements, key, first, viewed);
        }
        return new PickledStorage(elements, key, 0, count);
    }

    private readonly object? Call(string function, object?[] arguments)
    {
        switch (function)
        {
            case "collections.OrderedDict":
                var dictionary = new Dictionary<object, object?>();
                if (arguments is [List<object?> pairs])
                {
                    foreach (object? pair in pairs)
                    {
                        if (pair is not (object?[] { Length: 2 } or List<object?> { Count: 2 }))
                            throw Broken("has a key without a value");
                        SetItems(dictionary, [.. (IEnumerable<object?>)pair]);
                    }
                }
                else if (arguments.Length > 0)
                {
                    throw Broken("calls OrderedDict with something else than pairs");
                }
                return dictionary;
            case "torch.Size" when arguments is [IEnumerable<object?> sizes]:
                return sizes.ToArray();
            case "torch._utils._rebuild_parameter" when arguments is [PickledTensor parameter, ..]:
                return parameter;
            case "torch._utils._rebuild_tensor" or "torch._utils._rebuild_tensor_v2"
                when arguments is [PickledStorage storage, long offset, object?[] shape, object?[] strides, ..]:
                var tensor = new PickledTensor(storage, offset, Integers(shape), Integers(strides));
                return tensor.Check() is { } wrong ? throw Broken($"has a tensor that {wrong}") : tensor;
            default:
                throw Broken($"calls {function} with arguments that don't fit");
        }
    }

    private readonly long[] Integers(object?[] values)
    {
        var numbers = new long[values.Length];
        for (int i = 0; i < values.Length; i++)
            numbers[i] = values[i] is long number ? number : throw Broken("has a shape that is not of integers");
        return numbers;
    }

    private ReadOnlySpan<byte> Take(long count)
    {
        if (count > _bytes.Length - Position)
            throw Broken("ends in the middle");
        var taken = _bytes.Slice(Position, (int)count);
        Position += (int)count;
        return taken;
    }

    private ReadOnlySpan<byte> Line()
    {
        int length = _bytes[Position..].IndexOf((byte)'\n');
        return length < 0 ? throw Broken("ends in the middle") : Take(length + 1)[..^1];
    }

    private readonly object? Peek() => _stack.Count > 0 && _stack[^1] != Mark ? _stack[^1] : throw Broken("takes more than it has");

    private readonly T Peek<T>() => Peek() is T value ? value : throw Broken($"has something else where a {typeof(T).Name} belongs");

    private readonly object? Pop()
    {
        object? top = Peek();
        _stack.RemoveAt(_stack.Count - 1);
        return top;
    }

    private readonly T Pop<T>() => Pop() is T value ? value : throw Broken($"has something else where a {typeof(T).Name} belongs");

    private readonly object?[] PopMark()
    {
        int mark = _stack.LastIndexOf(Mark);
        if (mark < 0)
            throw Broken("takes more than it has");
        object?[] items = [.. _stack.Skip(mark + 1)];
        _stack.RemoveRange(mark, _stack.Count - mark);
        return items;
    }

    private static string Printable(string name) =>
        new([.. name.Take(100).Select(c => c is >= ' ' and <= '~' ? c : '?')]);

    private readonly InputException Refused(string what) =>
        new(_source, $"asks for {what}, which weights don't need: refused, nothing of it was executed");

    private readonly InputException Broken(string problem) => new(_source, $"is a broken checkpoint: its pickle {problem}");
}
