using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;
using Pcrl.Kernels.Cpu;
using Pcrl.Kernels.Llm;

namespace Pcrl.Kernels.Tests.Llm;

/// <summary>The products against sums in double precision over weights that are read, one at a time, from the blocks as a GGUF file has them.</summary>
public sealed unsafe class QuantisedProductTests
{
    private const int Block = QuantisedRows.Block;

    [SkippableTheory]
    [InlineData(8, 1, 256)]
    [InlineData(8, 1, 512)]
    [InlineData(16, 3, 256)]
    [InlineData(16, 3, 512)]
    [InlineData(24, 16, 256)]
    [InlineData(24, 16, 512)]
    public void Products_are_the_sums_over_the_quantised_numbers(int weightRows, int blocks, int vectorBits)
    {
        var (multiply4, multiply6) = Products(vectorBits);
        var random = new Random(weightRows + blocks);
        byte[] q4 = Blocks(random, weightRows * blocks, 144, [0, 2]), q6 = Blocks(random, weightRows * blocks, 210, [208]);
        for (int rows = 1; rows <= 40; rows++)
        {
            float[] x = [.. Enumerable.Range(0, rows * blocks * Block).Select(_ => (float)(random.NextDouble() * 2 - 1) * MathF.Pow(10, random.Next(-3, 3)))];
            var (read, q) = Quantised(x, rows, blocks);
            using (q)
            {
                Compare(read, rows, blocks, weightRows, (w, k) => Q4(q4, (w * blocks) + k / Block, k % Block), Run(q, rows, blocks, weightRows, Interleaved(q4, weightRows, blocks), 8, multiply4));
                Compare(read, rows, blocks, weightRows, (w, k) => Q6(q6, (w * blocks) + k / Block, k % Block), Run(q, rows, blocks, weightRows, q6, 1, multiply6));
            }
        }
    }

    [SkippableFact]
    public void Activations_become_the_integers_of_ggml()
    {
        Skip.IfNot(QuantisedRows.IsSupported, "this processor has no AVX2");
        var random = new Random(5);
        for (int round = 0; round < 200; round++)
        {
            float[] x = [.. Enumerable.Range(0, Block).Select(_ => (float)Math.Round((random.NextDouble() * 2 - 1) * 40) / (round % 7 + 1))]; // with equals and ties
            if (round == 0)
                Array.Clear(x);
            bool tiny = round == 1; // as good as zeros
            if (tiny)
                x = [.. x.Select(value => value * 1e-40f)];
            var (read, q) = Quantised(x, 1, 1);
            using (q)
            {
                float furthest = 0;
                foreach (float value in x)
                    furthest = Math.Abs(value) > Math.Abs(furthest) ? value : furthest;
                float inverse = furthest == 0 || tiny ? 0 : -127f / furthest;
                byte* block = (byte*)q.Address;
                Assert.Equal(inverse == 0 ? 0 : 1 / inverse, *(float*)(block + QuantisedRows.Scale));
                for (int i = 0; i < Block; i++)
                    Assert.Equal(Math.Min(127, (int)MathF.Round(inverse * x[i], MidpointRounding.ToEven)), ((sbyte*)block)[i]);
                for (int i = 0; i < 16; i++)
                    Assert.Equal(Enumerable.Range(16 * i, 16).Sum(at => ((sbyte*)block)[at]), ((short*)(block + QuantisedRows.SumsOf16))[i]);
                for (int i = 0; i < 8; i++)
                    Assert.Equal(Enumerable.Range(32 * i, 32).Sum(at => ((sbyte*)block)[at]), ((short*)(block + QuantisedRows.SumsOf32))[i]);
            }
        }
    }

    [SkippableTheory]
    [InlineData(256)]
    [InlineData(512)]
    public void The_largest_weights_and_activations_do_not_overflow(int vectorBits)
    {
        var (multiply4, multiply6) = Products(vectorBits);
        const int rows = QuantisedRows.TileRows;
        float[] x = [.. Enumerable.Range(0, rows * 2 * Block).Select(i => i / Block % 2 == 0 ? 1f : (i % 2 == 0 ? 1f : -1f))];
        foreach (byte fill in (byte[])[0xFF, 0x7F, 0x80, 0x00])
        {
            var (q4, q6) = (new byte[8 * 2 * 144], new byte[8 * 2 * 210]);
            Array.Fill(q4, fill);
            Array.Fill(q6, fill);
            for (int block = 0; block < 16; block++)
            {
                BitConverter.TryWriteBytes(q4.AsSpan(144 * block), (Half)0.5f);
                BitConverter.TryWriteBytes(q4.AsSpan(144 * block + 2), (Half)0.25f);
                BitConverter.TryWriteBytes(q6.AsSpan(210 * block + 208), (Half)0.5f);
                q6.AsSpan(210 * block + 192, 16).Fill(fill == 0xFF ? (byte)0x80 : fill); // scales to -128
            }
            var (read, q) = Quantised(x, rows, 2);
            using (q)
            {
                Compare(read, rows, 2, 8, (w, k) => Q4(q4, 2 * w + k / Block, k % Block), Run(q, rows, 2, 8, Interleaved(q4, 8, 2), 8, multiply4));
                Compare(read, rows, 2, 8, (w, k) => Q6(q6, 2 * w + k / Block, k % Block), Run(q, rows, 2, 8, q6, 1, multiply6));
            }
        }
    }

    [SkippableTheory]
    [InlineData(256)]
    [InlineData(512)]
    public void NaN_counts_as_zero_and_an_infinity_makes_its_row_NaN(int vectorBits)
    {
        var (multiply4, multiply6) = Products(vectorBits);
        byte[] q4 = Interleaved(Blocks(new Random(1), 8, 144, [0, 2]), 8, 1), q6 = Blocks(new Random(2), 8, 210, [208]);
        float[] x = [.. Enumerable.Range(0, 3 * Block).Select(i => MathF.Sin(i))], zeroed = [.. x];
        (x[7], zeroed[7]) = (float.NaN, 0);
        x[Block + 9] = float.NegativeInfinity;
        var (_, damaged) = Quantised(x, 3, 1);
        var (_, sound) = Quantised(zeroed, 3, 1);
        using (damaged)
        using (sound)
        {
            foreach (var (bytes, group, product) in (IEnumerable<(byte[], int, Product)>)[(q4, 8, multiply4), (q6, 1, multiply6)])
            {
                float[] a = Run(damaged, 3, 1, 8, bytes, group, product), b = Run(sound, 3, 1, 8, bytes, group, product);
                Assert.Equal(b[..8], a[..8]);
                Assert.All(a[8..16], value => Assert.True(float.IsNaN(value)));
                Assert.Equal(b[16..], a[16..]);
            }
        }
    }

    [SkippableTheory]
    [InlineData(256)]
    [InlineData(512)]
    public void Half_precision_is_read_to_the_last_bit(int vectorBits)
    {
        Skip.IfNot(vectorBits == 512 ? Avx512F.IsSupported : Avx2.IsSupported, $"this processor has no vectors of {vectorBits} bits");
        for (int start = 0; start < 65536; start += 16)
        {
            var halves = Vector256.Create([.. Enumerable.Range(start, 16).Select(h => (ushort)h)]);
            var floats = new float[16];
            if (vectorBits == 512)
                HalfPrecision.ToSingle(halves).CopyTo(floats);
            else
                Vector512.Create(HalfPrecision.ToSingle(halves.GetLower()), HalfPrecision.ToSingle(halves.GetUpper())).CopyTo(floats);
            for (int i = 0; i < 16; i++)
            {
                float expected = (float)BitConverter.UInt16BitsToHalf((ushort)(start + i));
                Assert.True(expected.Equals(floats[i]) && float.IsNegative(expected) == float.IsNegative(floats[i]), $"{start + i:X}: {floats[i]}");
            }
        }
    }

    /// <summary>The products of Q4_K and Q6_K in vectors of so many bits; the test is skipped where the processor has none.</summary>
    private static (Product Q4K, Product Q6K) Products(int vectorBits)
    {
        Skip.IfNot(vectorBits == 512 ? QuantisedRows.Has512 : QuantisedRows.IsSupported, $"this processor has not all instructions of {vectorBits} bits");
        return vectorBits == 512 ? (Q4KProduct.Multiply512, Q6KProduct.Multiply512) : (Q4KProduct.Multiply256, Q6KProduct.Multiply256);
    }

    private delegate void Product(byte* weights, int blocks, byte* tile, int rows, float* result, nint stride);

    private static float[] Run(NativeBuffer tiles, int rows, int blocks, int weightRows, byte[] weights, int group, Product product)
    {
        var result = new float[rows * weightRows];
        int bytes = weights.Length / weightRows * group;
        // As a mapped file has them: at no boundary.
        using var memory = new NativeBuffer(weights.Length + 4096);
        byte* start = (byte*)memory.Address + 2;
        weights.CopyTo(new Span<byte>(start, weights.Length));
        fixed (float* to = result)
        {
            for (int first = 0; first < rows; first += QuantisedRows.TileRows)
            {
                byte* tile = (byte*)tiles.Address + QuantisedRows.Place(first, rows, blocks).Offset;
                for (int w = 0; w < weightRows; w += group)
                    product(start + w / group * bytes, blocks, tile, Math.Min(QuantisedRows.TileRows, rows - first), to + first * weightRows + w, weightRows);
            }
        }
        return result;
    }

    private static void Compare(double[] x, int rows, int blocks, int weightRows, Func<int, int, double> weight, float[] result)
    {
        int length = blocks * Block;
        for (int w = 0; w < weightRows; w++)
        {
            double[] row = [.. Enumerable.Range(0, length).Select(k => weight(w, k))];
            for (int r = 0; r < rows; r++)
            {
                double sum = 0, size = 0;
                for (int k = 0; k < length; k++)
                {
                    sum += row[k] * x[r * length + k];
                    size += Math.Abs(row[k] * x[r * length + k]);
                }
                Assert.True(Math.Abs(sum - result[r * weightRows + w]) <= 2e-6 * size, $"row {r} of {rows}, weight row {w}: {result[r * weightRows + w]}, {sum} of {size}");
            }
        }
    }

    /// <summary>Rows quantised, and what they then stand for.</summary>
    private static (double[] Read, NativeBuffer Tiles) Quantised(float[] x, int rows, int blocks)
    {
        var tiles = new NativeBuffer(QuantisedRows.Bytes(rows, blocks * Block));
        var read = new double[x.Length];
        fixed (float* from = x)
        {
            for (int row = 0; row < rows; row++)
            {
                var (offset, stride) = QuantisedRows.Place(row, rows, blocks);
                byte* to = (byte*)tiles.Address + offset;
                QuantisedRows.Quantise(from + row * blocks * Block, blocks, to, stride);
                for (int k = 0; k < blocks * Block; k++)
                    read[row * blocks * Block + k] = (double)((sbyte*)to + k / Block * stride)[k % Block] * *(float*)(to + k / Block * stride + QuantisedRows.Scale);
            }
        }
        return (read, tiles);
    }

    private static byte[] Blocks(Random random, int count, int bytes, int[] scales)
    {
        var blocks = new byte[count * bytes];
        random.NextBytes(blocks);
        for (int block = 0; block < count; block++)
        {
            foreach (int at in scales)
                BitConverter.TryWriteBytes(blocks.AsSpan(block * bytes + at), (Half)(random.NextDouble() * 2 - 1));
        }
        return blocks;
    }

    private static (int Scale, int Minimum) Q4Scales(ReadOnlySpan<byte> block, int sub)
    {
        var s = block[4..16];
        return sub < 4 ? (s[sub] & 63, s[sub + 4] & 63) : ((s[sub + 4] & 15) | (s[sub - 4] >> 6 << 4), (s[sub + 4] >> 4) | (s[sub] >> 6 << 4));
    }

    private static double Q4(byte[] blocks, int index, int k)
    {
        var block = blocks.AsSpan(index * 144, 144);
        var (scale, minimum) = Q4Scales(block, k / 32);
        int nibble = block[16 + k / 64 * 32 + k % 32] >> (k / 32 % 2 * 4) & 15;
        return (double)BitConverter.ToHalf(block) * scale * nibble - (double)BitConverter.ToHalf(block[2..]) * minimum;
    }

    private static double Q6(byte[] blocks, int index, int k)
    {
        var block = blocks.AsSpan(index * 210, 210);
        int half = k / 128, quarter = k % 128 / 32, l = k % 32;
        int low = block[half * 64 + quarter % 2 * 32 + l] >> (quarter / 2 * 4) & 15, high = block[128 + half * 32 + l] >> (2 * quarter) & 3;
        return (double)BitConverter.ToHalf(block[208..]) * (sbyte)block[192 + k / 16] * ((low | high << 4) - 32);
    }

    /// <summary>Rows of Q4_K as llama.cpp lays out eight together.</summary>
    private static byte[] Interleaved(byte[] rows, int count, int blocks)
    {
        var result = new byte[rows.Length];
        for (int group = 0; group < count / 8; group++)
        {
            for (int block = 0; block < blocks; block++)
            {
                var to = result.AsSpan((group * blocks + block) * 1152, 1152);
                ReadOnlySpan<byte> From(int row) => rows.AsSpan(((group * 8 + row) * blocks + block) * 144, 144);
                for (int row = 0; row < 8; row++)
                {
                    From(row)[..2].CopyTo(to[(2 * row)..]);
                    From(row)[2..4].CopyTo(to[(16 + 2 * row)..]);
                    for (int chunk = 0; chunk < 16; chunk++)
                        From(row).Slice(16 + 8 * chunk, 8).CopyTo(to[(128 + 64 * chunk + 8 * row)..]);
                }
                for (int sub = 0; sub < 8; sub++)
                {
                    var twelve = to.Slice(32 + 12 * sub, 12);
                    for (int i = 0; i < 4; i++)
                    {
                        var ((s, m), (s4, m4)) = (Q4Scales(From(i), sub), Q4Scales(From(i + 4), sub));
                        twelve[i] = (byte)(s | s4 >> 4 << 6);
                        twelve[4 + i] = (byte)(m | m4 >> 4 << 6);
                        twelve[8 + i] = (byte)(s4 & 15 | (m4 & 15) << 4);
                    }
                }
            }
        }
        return result;
    }
}
