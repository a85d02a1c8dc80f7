using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pcrl.Kernels.Llm;

internal static unsafe partial class FloatProduct
{
    /// <summary>With AVX2, sixteen registers: four matrix rows with both rows of activations, or all eight with one where they are the same.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Multiply256(float* matrix, nint stride, int count, int length, float* first, float* second, float* firstResult, float* secondResult)
    {
        const int half = Group / 2;
        for (int row = 0; row < count; row += Group)
        {
            int at = GroupAt(row, count);
            float* group = matrix + at * stride;
            if (first == second)
            {
                MultiplyEight(group, stride, length, first, firstResult + at);
                Vector256.Load(firstResult + at).Store(secondResult + at);
                continue;
            }
            MultiplyFour(group, stride, length, first, second, firstResult + at, secondResult + at);
            MultiplyFour(group + half * stride, stride, length, first, second, firstResult + at + half, secondResult + at + half);
        }
    }

    [SkipLocalsInit, MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void MultiplyFour(float* matrix, nint stride, int length, float* first, float* second, float* firstResult, float* secondResult)
    {
        float* m0 = matrix;
        nint three = 3 * stride;
        Vector256<float> a0 = default, a1 = default, a2 = default, a3 = default, b0 = default, b1 = default, b2 = default, b3 = default;
        for (int at = 0; at < length; at += Vector256<float>.Count, m0 += Vector256<float>.Count)
        {
            var (x, y) = (Vector256.Load(first + at), Vector256.Load(second + at));
            var m = Vector256.Load(m0);
            a0 = Vector256.FusedMultiplyAdd(m, x, a0);
            b0 = Vector256.FusedMultiplyAdd(m, y, b0);
            m = Vector256.Load(m0 + stride);
            a1 = Vector256.FusedMultiplyAdd(m, x, a1);
            b1 = Vector256.FusedMultiplyAdd(m, y, b1);
            m = Vector256.Load(m0 + 2 * stride);
            a2 = Vector256.FusedMultiplyAdd(m, x, a2);
            b2 = Vector256.FusedMultiplyAdd(m, y, b2);
            m = Vector256.Load(m0 + three);
            a3 = Vector256.FusedMultiplyAdd(m, x, a3);
            b3 = Vector256.FusedMultiplyAdd(m, y, b3);
        }
        Sums(a0, a1, a2, a3).Store(firstResult);
        Sums(b0, b1, b2, b3).Store(secondResult);
    }

    [SkipLocalsInit, MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void MultiplyEight(float* matrix, nint stride, int length, float* row, float* result)
    {
        float* m0 = matrix, m4 = matrix + 4 * stride;
        nint three = 3 * stride;
        Vector256<float> a0 = default, a1 = default, a2 = default, a3 = default, a4 = default, a5 = default, a6 = default, a7 = default;
        for (int at = 0; at < length; at += Vector256<float>.Count, m0 += Vector256<float>.Count, m4 += Vector256<float>.Count)
        {
            var x = Vector256.Load(row + at);
            a0 = Vector256.FusedMultiplyAdd(Vector256.Load(m0), x, a0);
            a1 = Vector256.FusedMultiplyAdd(Vector256.Load(m0 + stride), x, a1);
            a2 = Vector256.FusedMultiplyAdd(Vector256.Load(m0 + 2 * stride), x, a2);
            a3 = Vector256.FusedMultiplyAdd(Vector256.Load(m0 + three), x, a3);
            a4 = Vector256.FusedMultiplyAdd(Vector256.Load(m4), x, a4);
            a5 = Vector256.FusedMultiplyAdd(Vector256.Load(m4 + stride), x, a5);
            a6 = Vector256.FusedMultiplyAdd(Vector256.Load(m4 + 2 * stride), x, a6);
            a7 = Vector256.FusedMultiplyAdd(Vector256.Load(m4 + three), x, a7);
        }
        Sums(a0, a1, a2, a3).Store(result);
        Sums(a4, a5, a6, a7).Store(result + 4);
    }

    /// <summary>The sum of each vector.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector128<float> Sums(Vector256<float> v0, Vector256<float> v1, Vector256<float> v2, Vector256<float> v3)
    {
        var fours = Avx.HorizontalAdd(Avx.HorizontalAdd(v0, v1), Avx.HorizontalAdd(v2, v3));
        return fours.GetLower() + fours.GetUpper();
    }
}
