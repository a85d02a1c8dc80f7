using System.Buffers.Binary;
using System.Numerics;
using Pcrl.Runtime;

namespace Pcrl.Train.Checkpoints;

/// <summary>
/// A <c>.pth</c>/<c>.pt</c>/<c>.bin</c> file of <c>torch.save</c>, memory-mapped: the zip form (PyTorch ≥ 1.6) and the older one. Only
/// tensors and the dictionaries around them are read; a file that asks for anything else is refused (see <see cref="PickleReader"/>).
/// Tensors in nested dictionaries are named <c>outer.inner</c>; a lone wrapper such as <c>state_dict</c> or <c>model</c>, and the
/// <c>module.</c> of parallel training, are left out of the names.
/// </summary>
public sealed class TorchFile : ITensorSource
{
    private static readonly string[] Wrappers = ["state_dict", "model_state_dict", "model", "params", "net"];

    /// <summary>How much larger than the file a tensor may become by repeating elements (stride 0).</summary>
    private const long RepetitionAllowance = 64 << 20;

    /// <summary>Characters of all names together: real models have a few hundred thousand.</summary>
    private const int MaximumNameCharacters = 64 << 20;

    private readonly MappedFile _file;
    private readonly Dictionary<string, (long Offset, long Length)> _storages;
    private readonly Dictionary<string, PickledTensor> _tensors;

    private TorchFile(string path, MappedFile file, Dictionary<string, (long, long)> storages, Dictionary<string, PickledTensor> tensors)
    {
        Path = path;
        _file = file;
        _storages = storages;
        _tensors = tensors;
    }

    /// <inheritdoc/>
    public string Path { get; }

    /// <inheritdoc/>
    public IReadOnlyCollection<string> Names => _tensors.Keys;

    /// <summary>Whether a file that begins so may be one of torch.save: a zip file, or a pickle of protocol 2 and higher.</summary>
    internal static bool Recognises(ReadOnlySpan<byte> start) =>
        start.StartsWith("PK\u0003\u0004"u8) || (start.Length > 2 && start[0] == 0x80 && start[1] is >= 2 and <= 4);

    /// <summary>Opens and checks a file.</summary>
    /// <exception cref="InputException">Missing, truncated, not of torch.save, or asking for more than tensors.</exception>
    public static TorchFile Open(string path)
    {
        var file = MappedFile.Open(path);
        try
        {
            bool zip = file.Length >= 4 && file.Bytes(0, 4).SequenceEqual("PK\u0003\u0004"u8);
            var (root, storages) = zip ? ReadZip(path, file) : ReadLegacy(path, file);
            var tensors = Flatten(path, root);
            if (tensors.Count == 0)
                throw new InputException(path, "holds no tensors");
            foreach (var (name, tensor) in tensors)
                CheckStorage(path, file.Length, name, tensor, storages);
            return new TorchFile(path, file, storages, tensors);
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    private static (object? Root, Dictionary<string, (long, long)> Storages) ReadZip(string path, MappedFile file)
    {
        var members = ZipDirectory.Read(path, file);
        if (members.Keys.Any(name => name.Contains("/code/", StringComparison.Ordinal)))
            throw new InputException(path, "is a TorchScript program, not a file of weights; bring the state dict or a safetensors file");
        string[] pickles = [.. members.Keys.Where(name => name == "data.pkl" || name.EndsWith("/data.pkl", StringComparison.Ordinal))];
        if (pickles.Length != 1)
            throw new InputException(path, "is a zip file, but none of torch.save");
        string prefix = pickles[0][..^"data.pkl".Length];
        if (members.TryGetValue(prefix + "byteorder", out var order) && order.Length <= 16
            && !file.Bytes(order.Offset, (int)order.Length).StartsWith("little"u8))
            throw new InputException(path, "was written on a big-endian machine");
        var (offset, length) = members[pickles[0]];
        var reader = new PickleReader(path, file.Bytes(offset, (int)Math.Min(length, int.MaxValue)));
        object? root = reader.Read();
        string data = prefix + "data/";
        return (root, members.Where(m => m.Key.StartsWith(data, StringComparison.Ordinal)).ToDictionary(m => m.Key[data.Length..], m => m.Value));
    }

    /// <summary>Five pickles (magic number, protocol, about the system, the object, the keys of its storages), then per key a count and the data.</summary>
    private static (object? Root, Dictionary<string, (long, long)> Storages) ReadLegacy(string path, MappedFile file)
    {
        var magic = BigInteger.Parse("0" + "1950a86a20f9469cfc6c", System.Globalization.NumberStyles.HexNumber);
        long position = 0;
        object? Next()
        {
            var reader = new PickleReader(path, file.Bytes(position, (int)Math.Min(file.Length - position, int.MaxValue)));
            object? value = reader.Read();
            position += reader.Position;
            return value;
        }
        if (Next() is not BigInteger number || number != magic)
            throw new InputException(path, "is a pickle, but none of torch.save");
        if (Next() is not 1001L)
            throw new InputException(path, "has an unknown torch.save protocol");
        if (Next() is Dictionary<object, object?> system && system.TryGetValue("little_endian", out object? little) && little is false)
            throw new InputException(path, "was written on a big-endian machine");
        object? root = Next();
        if (Next() is not List<object?> keys)
            throw new InputException(path, "does not list its storages");
        var types = new Dictionary<string, string>();
        foreach (var tensor in Flatten(path, root).Values)
            types[tensor.Storage.Key] = tensor.Storage.Type;
        var storages = new Dictionary<string, (long, long)>();
        foreach (object? item in keys)
        {
            if (item is not string key || file.Length - position < 8)
                throw new InputException(path, "is truncated");
            // Storages of tensors outside the state dict are of unknown width: nothing behind the first of them can be found.
            if (!types.TryGetValue(key, out string? type))
                throw new InputException(path, "holds storages beside its tensors in the format before PyTorch 1.6; save it anew");
            long count = BinaryPrimitives.ReadInt64LittleEndian(file.Bytes(position, 8));
            int size = ElementTypes.Size(type)!.Value;
            position += 8;
            if (count < 0 || count > (file.Length - position) / size)
                throw new InputException(path, "is truncated");
            storages[key] = (position, count * size);
            position += count * size;
        }
        return (root, storages);
    }

    /// <summary>Tensors by name. Containers are visited once, so that loops and doubled references cost nothing.</summary>
    private static Dictionary<string, PickledTensor> Flatten(string path, object? root)
    {
        if (root is Dictionary<object, object?> outer && !outer.Values.Any(v => v is PickledTensor))
        {
            var wrapped = Wrappers.Where(w => outer.TryGetValue(w, out object? inner) && inner is Dictionary<object, object?>).ToList();
            if (wrapped.Count == 1)
                root = outer[wrapped[0]];
        }
        var tensors = new Dictionary<string, PickledTensor>();
        var visited = new HashSet<object>(ReferenceEqualityComparer.Instance);
        int characters = 0;
        var pending = new Stack<(string Name, object? Value)>([("", root)]);
        while (pending.TryPop(out var next))
        {
            if (next.Value is PickledTensor tensor)
                tensors[next.Name.Length == 0 ? "tensor" : next.Name] = tensor;
            if (next.Value is not Dictionary<object, object?> dictionary || !visited.Add(dictionary))
                continue;
            foreach (var (key, value) in dictionary.Reverse())
            {
                if (value is not (PickledTensor or Dictionary<object, object?>))
                    continue;
                string name = next.Name.Length == 0 ? $"{key}" : $"{next.Name}.{key}";
                if ((characters += name.Length) > MaximumNameCharacters)
                    throw new InputException(path, "has absurdly long or many names");
                pending.Push((name, value));
            }
        }
        const string parallel = "module.";
        return tensors.Count > 0 && tensors.Keys.All(name => name.StartsWith(parallel, StringComparison.Ordinal))
            ? tensors.ToDictionary(t => t.Key[parallel.Length..], t => t.Value)
            : tensors;
    }

    private static void CheckStorage(
        string path, long fileLength, string name, PickledTensor tensor, Dictionary<string, (long Offset, long Length)> storages)
    {
        int size = ElementTypes.Size(tensor.Storage.Type)!.Value;
        if (!storages.TryGetValue(tensor.Storage.Key, out var data))
            throw new InputException(path, $"lacks the data of tensor {name}; is the file truncated?");
        if (tensor.Storage.First + tensor.Storage.Count > data.Length / size)
            throw new InputException(path, $"claims {tensor.Storage.Count} elements for the storage of tensor {name}, but holds {data.Length / size}");
        if (tensor.ElementCount * size > fileLength + RepetitionAllowance)
            throw new InputException(path, $"tensor {name} would be far larger than the file");
    }

    private PickledTensor Tensor(string name) => _tensors.TryGetValue(name, out var tensor)
        ? tensor
        : throw new InputException(Path, $"has no tensor {name}");

    /// <inheritdoc/>
    public IReadOnlyList<long> Shape(string name) => Tensor(name).Shape;

    /// <inheritdoc/>
    public float[] ReadFloats(string name)
    {
        var tensor = Tensor(name);
        return Gather(tensor, ElementTypes.ToFloats(tensor.Storage.Type, Bytes(name, tensor))
            ?? throw new InputException(Path, $"tensor {name} is {tensor.Storage.Type}, floating-point was expected"));
    }

    /// <inheritdoc/>
    public void ReadFloats(string name, long first, Span<float> values)
    {
        var tensor = Tensor(name);
        if (first < 0 || first > tensor.ElementCount - values.Length)
            throw new InputException(Path, $"tensor {name} has {tensor.ElementCount} values, {first + values.Length} are needed");
        if (!tensor.IsContiguous)
        {
            ReadFloats(name).AsSpan(checked((int)first), values.Length).CopyTo(values);
            return;
        }
        int size = ElementTypes.Size(tensor.Storage.Type)!.Value;
        long offset = _storages[tensor.Storage.Key].Offset + (tensor.Storage.First + tensor.Offset + first) * size;
        int bytes = checked(values.Length * size);
        if (!ElementTypes.TryToFloats(tensor.Storage.Type, _file.Bytes(offset, bytes), values))
            throw new InputException(Path, $"tensor {name} is {tensor.Storage.Type}, floating-point was expected");
        _file.Release(offset, bytes);
    }

    /// <inheritdoc/>
    public long[] ReadIntegers(string name)
    {
        var tensor = Tensor(name);
        return Gather(tensor, ElementTypes.ToIntegers(tensor.Storage.Type, Bytes(name, tensor))
            ?? throw new InputException(Path, $"tensor {name} is {tensor.Storage.Type}, integers were expected"));
    }

    /// <summary>The part of the storage that the tensor touches.</summary>
    private ReadOnlySpan<byte> Bytes(string name, PickledTensor tensor)
    {
        int size = ElementTypes.Size(tensor.Storage.Type)!.Value;
        long bytes = tensor.Extent * size;
        if (bytes > int.MaxValue || tensor.ElementCount > int.MaxValue)
            throw new InputException(Path, $"tensor {name} is larger than 2 GiB");
        return _file.Bytes(_storages[tensor.Storage.Key].Offset + (tensor.Storage.First + tensor.Offset) * size, (int)bytes);
    }

    private static T[] Gather<T>(PickledTensor tensor, T[] storage)
    {
        if (tensor.IsContiguous)
            return storage;
        var values = new T[tensor.ElementCount];
        var index = new long[tensor.Shape.Length];
        long at = 0;
        for (long i = 0; i < values.Length; i++)
        {
            values[i] = storage[at];
            for (int d = index.Length - 1; d >= 0; d--) // count up, the last dimension fastest
            {
                at += tensor.Strides[d];
                if (++index[d] < tensor.Shape[d])
                    break;
                at -= index[d] * tensor.Strides[d];
                index[d] = 0;
            }
        }
        return values;
    }

    /// <inheritdoc/>
    public void Dispose() => _file.Dispose();
}
