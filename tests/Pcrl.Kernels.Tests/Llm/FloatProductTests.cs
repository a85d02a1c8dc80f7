using Pcrl.Kernels.Llm;

namespace Pcrl.Kernels.Tests.Llm;

/// <summary>Products of float32 rows against sums in double precision.</summary>
public sealed unsafe class FloatProductTests
{
    [SkippableTheory]
    [InlineData(8, 16, 256)]
    [InlineData(8, 16, 512)]
    [InlineData(13, 48, 256)] // not in whole groups
    [InlineData(13, 48, 512)]
    [InlineData(32, 256, 256)]
    [InlineData(32, 256, 512)]
    public void Products_are_the_sums(int count, int length, int vectorBits)
    {
        Skip.IfNot(vectorBits == 512 ? QuantisedRows.Has512 : QuantisedRows.IsSupported, $"this processor has no vectors of {vectorBits} bits");
        var random = new Random(count + length);
        int stride = length + 5; // matrix rows may be apart
        float[] matrix = Values(count * stride), first = Values(length), second = Values(length), a = new float[count], b = new float[count], alone = new float[count];
        Product multiply = vectorBits == 512 ? FloatProduct.Multiply512 : FloatProduct.Multiply256;
        fixed (float* m = matrix, x = first, y = second, toA = a, toB = b, toAlone = alone)
        {
            multiply(m, stride, count, length, x, y, toA, toB);
            multiply(m, stride, count, length, x, x, toAlone, toAlone);
        }
        Assert.Equal(alone, a); // to the bit: what stands beside a row does not matter
        for (int row = 0; row < count; row++)
        {
            foreach (var (input, result) in (IEnumerable<(float[], float[])>)[(first, a), (second, b)])
            {
                double[] products = [.. input.Select((value, k) => (double)value * matrix[row * stride + k])];
                Assert.InRange(result[row] - products.Sum(), -1e-6 * products.Sum(Math.Abs), 1e-6 * products.Sum(Math.Abs));
            }
        }

        float[] Values(int size) => [.. Enumerable.Range(0, size).Select(_ => (float)(random.NextDouble() * 2 - 1) * MathF.Pow(10, random.Next(-3, 3)))];
    }

    private delegate void Product(float* matrix, nint stride, int count, int length, float* first, float* second, float* firstResult, float* secondResult);
}
