using System.Runtime.InteropServices;
using TorchSharp;
using static TorchSharp.torch;
using static TorchSharp.torch.nn;

namespace Pcrl.Train.Quantisation;

/// <summary>
/// A frozen matrix in NF4 with double quantisation: 0.516 bytes a weight. Its buffers are not part of a module's state: a checkpoint holds the matrix under its own
/// name, or not at all, since it never changes.
/// </summary>
public sealed class Nf4Weight : Module
{
    /// <summary>What one block of scales spans; the unit in which threads share the work.</summary>
    private const int Chunk = Nf4.BlockSize * ScaleCode.BlockSize;

    private readonly Tensor packed, scales, block_scales, mean;
    private readonly long[] _shape;
    private readonly int _count;

    /// <summary>A matrix of zeros, [outputs, inputs].</summary>
    public Nf4Weight(long outputs, long inputs)
        : base(nameof(Nf4Weight))
    {
        _shape = [outputs, inputs];
        _count = checked((int)(outputs * inputs));
        int blocks = Ceiling(_count, Nf4.BlockSize);
        packed = Buffer(nameof(packed), Ceiling(_count, 2), ScalarType.Byte);
        scales = Buffer(nameof(scales), blocks, ScalarType.Byte);
        block_scales = Buffer(nameof(block_scales), Ceiling(blocks, ScaleCode.BlockSize), ScalarType.Float32);
        mean = Buffer(nameof(mean), 1, ScalarType.Float32);
    }

    private Tensor Buffer(string name, long count, ScalarType type)
    {
        var buffer = zeros(count, dtype: type).DetachFromDisposeScope();
        register_buffer(name, buffer, persistent: false);
        return buffer;
    }

    /// <summary>Takes the nearest of a matrix's values, row-major.</summary>
    /// <exception cref="ArgumentException">The number of values does not fit.</exception>
    public void Set(ReadOnlySpan<float> values)
    {
        if (values.Length != _count)
            throw new ArgumentException($"{values.Length} values for a weight of shape [{string.Join(", ", _shape)}]", nameof(values));
        var exact = new float[scales.numel()];
        Nf4.Quantise(values, packed.bytes, exact);
        Span<float> offset = Span<float>(mean);
        offset[0] = ScaleCode.Quantise(exact, scales.bytes, Span<float>(block_scales));
    }

    /// <summary>Takes random codes with one scale for all: weights of the given standard deviation, for trials of size and time.</summary>
    public void Randomise(Random random, float deviation)
    {
        random.NextBytes(packed.bytes);
        double power = 0;
        foreach (float value in Nf4.Codebook)
            power += value * value / 16;
        scales.bytes.Clear();
        block_scales.zero_();
        mean.fill_(deviation / Math.Sqrt(power));
    }

    /// <summary>The matrix, [outputs, inputs], in float32 or bfloat16.</summary>
    public unsafe Tensor Dequantise(ScalarType type)
    {
        var result = empty(_shape, type);
        int threads = Math.Max(1, get_num_threads());
        float offset = Span<float>(mean)[0];
        fixed (byte* codes = packed.bytes, scaleCodes = scales.bytes, blockScales = block_scales.bytes, output = result.bytes)
        {
            // Pointers into memory that torch owns: it does not move, and this method outlives the loop.
            var (from, fromScales, fromBlocks, to) = ((nint)codes, (nint)scaleCodes, (nint)blockScales, (nint)output);
            Parallel.For(0, Ceiling(_count, Chunk), new ParallelOptions { MaxDegreeOfParallelism = threads }, chunk =>
            {
                float blockScale = ((float*)fromBlocks)[chunk];
                int end = Math.Min(_count, (chunk + 1) * Chunk);
                for (int start = chunk * Chunk; start < end; start += Nf4.BlockSize)
                {
                    int length = Math.Min(Nf4.BlockSize, end - start);
                    float scale = ScaleCode.Dequantise(((byte*)fromScales)[start / Nf4.BlockSize], blockScale, offset);
                    var block = new ReadOnlySpan<byte>((byte*)from + start / 2, (length + 1) / 2);
                    if (type == ScalarType.BFloat16)
                        Nf4.Dequantise(block, scale, new Span<ushort>((ushort*)to + start, length));
                    else
                        Nf4.Dequantise(block, scale, new Span<float>((float*)to + start, length));
                }
            });
        }
        return result;
    }

    private static int Ceiling(int count, int size) => (count + size - 1) / size;

    private static Span<T> Span<T>(Tensor tensor)
        where T : struct => MemoryMarshal.Cast<byte, T>(tensor.bytes);
}
