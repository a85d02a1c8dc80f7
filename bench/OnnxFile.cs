using System.Runtime.InteropServices;
using System.Text;
using Microsoft.ML.OnnxRuntime;
using Pcrl.Runtime.Vision;

namespace Pcrl.Bench;

/// <summary>
/// Writes an ONNX model, which is a protobuf message, without a protobuf library: only the few fields that a graph of plain float operators needs.
/// Weights are fetched one after the other while the file is written.
/// </summary>
internal sealed class OnnxFile
{
    private const int FloatType = 1;
    private const int Varint = 0, Bytes = 2;

    private readonly List<byte[]> _nodes = [];
    private readonly List<(string Name, int[] Shape)> _weights = [];
    private readonly List<byte[]> _constants = [];
    private readonly List<byte[]> _inputs = [];
    private readonly List<byte[]> _outputs = [];
    private int _values;

    /// <summary>Names and shapes of the weights that the graph refers to.</summary>
    public IReadOnlyList<(string Name, int[] Shape)> Weights => _weights;

    public string Input(string name, params int[] shape)
    {
        _inputs.Add(ValueInfo(name, shape));
        return name;
    }

    public void Output(string value, params int[] shape) => _outputs.Add(ValueInfo(value, shape));

    /// <summary>A weight to be filled in while the file is written.</summary>
    public string Weight(string name, params int[] shape)
    {
        _weights.Add((name, shape));
        return name;
    }

    /// <summary>Values that are written as they are: bytes, integers of 32 or 64 bits, floats.</summary>
    public string Constant<T>(string name, T[] values, long[] shape)
        where T : unmanaged
    {
        int type = Type.GetTypeCode(typeof(T)) switch // not by the array's type: a sbyte[] passes for a byte[]
        {
            TypeCode.Single => FloatType,
            TypeCode.Byte => 2,
            TypeCode.SByte => 3,
            TypeCode.Int32 => 6,
            TypeCode.Int64 => 7,
            _ => throw new NotSupportedException($"{typeof(T)}"),
        };
        var bytes = MemoryMarshal.AsBytes<T>(values);
        _constants.Add([.. TensorHead(name, shape, type, bytes.Length), .. bytes]);
        return name;
    }

    /// <summary>A convolution with the weights <c>name.weight</c> and <c>name.bias</c>.</summary>
    public string Convolution(string name, string x, int inputs, int outputs, int kernel, int stride = 1, int padding = 0) =>
        Convolution((Weight($"{name}.weight", outputs, inputs, kernel, kernel), Weight($"{name}.bias", outputs)), x, kernel, stride, padding);

    public string Convolution((string Weight, string Bias) values, string x, int kernel, int stride, int padding) =>
        Node("Conv", [x, values.Weight, values.Bias], ("kernel_shape", [kernel, kernel]), ("strides", [stride, stride]), ("pads", [padding, padding, padding, padding]));

    /// <summary>A session with all optimisations; the file it is read from is gone afterwards.</summary>
    public InferenceSession Open(WeightReader weights, int threads)
    {
        using var options = new SessionOptions { IntraOpNumThreads = threads, InterOpNumThreads = 1, GraphOptimizationLevel = GraphOptimizationLevel.ORT_ENABLE_ALL };
        string path = Path.GetTempFileName();
        try
        {
            Save(path, weights);
            return new InferenceSession(path, options);
        }
        finally
        {
            File.Delete(path);
        }
    }

    /// <summary>Adds an operator and gives the name of its only output.</summary>
    public string Node(string type, string[] inputs, params (string Name, long[] Values)[] attributes)
    {
        string output = $"v{_values++}";
        var node = new MemoryStream();
        foreach (string input in inputs)
            Field(node, 1, input);
        Field(node, 2, output);
        Field(node, 4, type);
        foreach (var (name, values) in attributes)
        {
            const int Int = 2, Ints = 7;
            var attribute = new MemoryStream();
            Field(attribute, 1, name);
            bool list = values.Length != 1 || name is "kernel_shape" or "strides" or "pads";
            foreach (long value in values)
                Field(attribute, list ? 8 : 3, value);
            Field(attribute, 20, list ? Ints : Int);
            Field(node, 5, attribute.ToArray());
        }
        _nodes.Add(node.ToArray());
        return output;
    }

    public void Save(string path, WeightReader weights)
    {
        const int Opset = 17, IrVersion = 8;
        var small = new MemoryStream();
        foreach (var node in _nodes)
            Field(small, 1, node);
        Field(small, 2, "encoder");
        foreach (var constant in _constants)
            Field(small, 5, constant);
        foreach (var input in _inputs)
            Field(small, 11, input);
        foreach (var output in _outputs)
            Field(small, 12, output);
        var heads = _weights.Select(w => TensorHead(w.Name, [.. w.Shape.Select(d => (long)d)], FloatType, Count(w.Shape) * sizeof(float))).ToList();
        long graph = small.Length;
        for (int i = 0; i < heads.Count; i++)
        {
            long tensor = heads[i].Length + Count(_weights[i].Shape) * sizeof(float);
            graph += 1 + VarintLength(tensor) + tensor;
        }

        using var file = File.Create(path);
        Field(file, 1, IrVersion);
        var opset = new MemoryStream();
        Field(opset, 1, "");
        Field(opset, 2, Opset);
        Field(file, 8, opset.ToArray());
        Key(file, 7, Bytes);
        WriteVarint(file, graph);
        small.WriteTo(file);
        for (int i = 0; i < heads.Count; i++)
        {
            Key(file, 5, Bytes);
            WriteVarint(file, heads[i].Length + Count(_weights[i].Shape) * sizeof(float));
            file.Write(heads[i]);
            file.Write(MemoryMarshal.AsBytes(weights(_weights[i].Name, _weights[i].Shape)));
        }
    }

    private static long Count(int[] shape) => shape.Aggregate(1L, (product, d) => product * d);

    /// <summary>A tensor up to and including the length of its raw data.</summary>
    private static byte[] TensorHead(string name, long[] shape, int type, long bytes)
    {
        var tensor = new MemoryStream();
        foreach (long d in shape)
            Field(tensor, 1, d);
        Field(tensor, 2, type);
        Field(tensor, 8, name);
        Key(tensor, 9, Bytes);
        WriteVarint(tensor, bytes);
        return tensor.ToArray();
    }

    private static byte[] ValueInfo(string name, int[] shape)
    {
        var dimensions = new MemoryStream();
        foreach (int d in shape)
        {
            var dimension = new MemoryStream();
            Field(dimension, 1, d);
            Field(dimensions, 1, dimension.ToArray());
        }
        MemoryStream tensor = new(), type = new(), value = new();
        Field(tensor, 1, FloatType);
        Field(tensor, 2, dimensions.ToArray());
        Field(type, 1, tensor.ToArray());
        Field(value, 1, name);
        Field(value, 2, type.ToArray());
        return value.ToArray();
    }

    private static void Field(Stream to, int number, long value)
    {
        Key(to, number, Varint);
        WriteVarint(to, value);
    }

    private static void Field(Stream to, int number, string value) => Field(to, number, Encoding.UTF8.GetBytes(value));

    private static void Field(Stream to, int number, byte[] value)
    {
        Key(to, number, Bytes);
        WriteVarint(to, value.Length);
        to.Write(value);
    }

    private static void Key(Stream to, int number, int wireType) => WriteVarint(to, (number << 3) | wireType);

    private static void WriteVarint(Stream to, long value)
    {
        ulong rest = (ulong)value;
        for (; rest > 127; rest >>= 7)
            to.WriteByte((byte)(rest | 128));
        to.WriteByte((byte)rest);
    }

    private static int VarintLength(long value)
    {
        int length = 1;
        for (ulong rest = (ulong)value; rest > 127; rest >>= 7)
            length++;
        return length;
    }
}
