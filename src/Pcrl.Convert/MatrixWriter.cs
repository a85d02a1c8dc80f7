using System.Buffers;
using System.Numerics.Tensors;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Train.Checkpoints;

namespace Pcrl.Convert;

/// <summary>Brings matrices from a checkpoint into a GGUF, a slab of rows at a time: several slabs are prepared while one is written.</summary>
internal sealed class MatrixWriter(ITensorSource weights, LoraAdapter? adapter, CancellationToken cancellation)
{
    private const int SlabValues = 1 << 21; // 8 MiB of float32
    private const float LargestHalf = 65504;

    /// <summary>Writes one tensor.</summary>
    /// <param name="stream">Where to.</param>
    /// <param name="name">Hugging Face's name without <c>.weight</c>.</param>
    /// <param name="type">How it is stored.</param>
    /// <param name="rows">1 for a vector.</param>
    /// <param name="columns">Values of a row.</param>
    /// <param name="headSize">Rows of a head that are to be interleaved for llama.cpp's rotation; 0 for none.</param>
    public void Write(Stream stream, string name, GgufType type, long rows, int columns, int headSize)
    {
        int group = Math.Max(1, headSize), step = Math.Max(1, SlabValues / columns / group) * group;
        var pending = new Queue<Task<ArraySegment<byte>>>();
        try
        {
            for (long first = 0; first < rows || pending.Count > 0;)
            {
                for (; first < rows && pending.Count <= Environment.ProcessorCount; first += step)
                {
                    var (start, count) = (first, (int)Math.Min(step, rows - first));
                    pending.Enqueue(Task.Run(() => Encode(name, type, start, count, columns, headSize)));
                }
                var slab = pending.Dequeue().GetAwaiter().GetResult();
                stream.Write(slab);
                ArrayPool<byte>.Shared.Return(slab.Array!);
                cancellation.ThrowIfCancellationRequested();
            }
        }
        finally
        {
            Task.WhenAll(pending).ContinueWith(_ => { }, TaskScheduler.Default).Wait(); // they read a file that is closed after a failure
        }
    }

    private ArraySegment<byte> Encode(string name, GgufType type, long first, int rows, int columns, int headSize)
    {
        int count = rows * columns;
        float[] values = ArrayPool<float>.Shared.Rent(count);
        var slab = values.AsSpan(0, count);
        weights.ReadFloats($"{name}.weight", first * columns, slab);
        if (adapter?.Deltas.GetValueOrDefault(name) is { } delta)
            Add(delta, slab, first, columns);
        float largest = TensorPrimitives.MaxMagnitude<float>(slab); // NaN if there is one
        if (!float.IsFinite(largest))
            throw new InputException(weights.Path, $"tensor {name}.weight holds NaN or infinity");
        if (type == GgufType.F16 && largest > LargestHalf)
            throw new InputException(weights.Path, $"tensor {name}.weight holds {largest}, beyond what F16 can; choose BF16 or F32");
        if (headSize > 0)
            values = Interleave(values, rows, columns, headSize);
        int bytes = (int)GgufTensor.Bytes(type, count);
        byte[] encoded = ArrayPool<byte>.Shared.Rent(bytes);
        Quantiser.Encode(type, values.AsSpan(0, count), columns, encoded.AsSpan(0, bytes));
        ArrayPool<float>.Shared.Return(values);
        return new ArraySegment<byte>(encoded, 0, bytes);
    }

    /// <summary>W + scale · B·A in float32, for the rows from <paramref name="first"/> on.</summary>
    private static void Add(LoraDelta delta, Span<float> slab, long first, int columns)
    {
        var sum = new float[columns];
        for (int row = 0; row < slab.Length / columns; row++)
        {
            Array.Clear(sum);
            for (int r = 0; r < delta.Rank; r++)
                TensorPrimitives.MultiplyAdd(delta.A.AsSpan(r * columns, columns), delta.B[(first + row) * delta.Rank + r], sum, sum);
            var target = slab.Slice(row * columns, columns);
            TensorPrimitives.MultiplyAdd(sum, delta.Scale, target, target);
        }
    }

    /// <summary>
    /// Hugging Face rotates row i of a head with row i + half; llama.cpp rotates neighbours. Row p·half + j becomes row 2j + p.
    /// </summary>
    private static float[] Interleave(float[] values, int rows, int columns, int headSize)
    {
        float[] reordered = ArrayPool<float>.Shared.Rent(rows * columns);
        int half = headSize / 2;
        for (int row = 0; row < rows; row++)
        {
            int head = row / headSize, part = row % headSize / half, j = row % half;
            values.AsSpan(row * columns, columns).CopyTo(reordered.AsSpan((head * headSize + 2 * j + part) * columns));
        }
        ArrayPool<float>.Shared.Return(values);
        return reordered;
    }
}
