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
        var (codes, exact) = (new byte[packed.numel()], new float[scales.numel()]);
        Nf4.Quantise(values, codes, exact);
        var (scaleCodes, blockScales) = (new byte[exact.Length], new float[block_scales.numel()]);
        mean.fill_(ScaleCode.Quantise(exact, scaleCodes, blockScales));
        Fill(packed, tensor(codes, ScalarType.Byte));
        Fill(scales, tensor(scaleCodes, ScalarType.Byte));
        Fill(block_scales, tensor(blockScales));
    }

    /// <summary>Takes random codes with one scale for all: weights of the given standard deviation, for trials of size and time.</summary>
    public void Randomise(Random random, float deviation)
    {
        var codes = new byte[packed.numel()];
        random.NextBytes(codes);
        Fill(packed, tensor(codes, ScalarType.Byte));
        double power = 0;
        foreach (float value in Nf4.Codebook)
            power += value * value / 16;
        scales.zero_();
        block_scales.zero_();
        mean.fill_(deviation / Math.Sqrt(power));
    }

    private static void Fill(Tensor buffer, Tensor values)
    {
        using (values)
            buffer.copy_(values);
    }

    /// <summary>The matrix, [outputs, inputs], in float32 or bfloat16.</summary>
    public Tensor Dequantise(ScalarType type) => packed.device_type == DeviceType.CPU ? DequantiseByThreads(type) : DequantiseByTorch(type);

    /// <summary>The same by torch's operators, on any device and to the same bits.</summary>
    internal Tensor DequantiseByTorch(ScalarType type)
    {
        using var scope = NewDisposeScope();
        var codes = stack([packed.bitwise_right_shift(4), packed.bitwise_and(15)], 1).flatten().slice(0, 0, _count, 1); // two to a byte, the first in the high half
        var blockScale = block_scales.repeat_interleave(ScaleCode.BlockSize).slice(0, 0, scales.numel(), 1);
        var scale = Values(ScaleCode.Codebook, scales) * blockScale + mean;
        return (Values(Nf4.Codebook, codes) * scale.repeat_interleave(Nf4.BlockSize).slice(0, 0, _count, 1)).to(type).view(_shape).MoveToOuterDisposeScope();
    }

    private static Tensor Values(ReadOnlySpan<float> codebook, Tensor codes) => tensor(codebook.ToArray(), device: codes.device).index_select(0, codes.to(ScalarType.Int32));

    private unsafe Tensor DequantiseByThreads(ScalarType type)
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
