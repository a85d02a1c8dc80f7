using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pcrl.Kernels.Llm;

internal static unsafe partial class FloatProduct
{
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Multiply512(float* matrix, nint stride, int count, int length, float* first, float* second, float* firstResult, float* secondResult)
    {
        for (int row = 0; row < count; row += Group)
        {
            int at = GroupAt(row, count);
            MultiplyGroup(matrix + at * stride, stride, length, first, second, firstResult + at, secondResult + at);
        }
    }

    [SkipLocalsInit, MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void MultiplyGroup(float* matrix, nint stride, int length, float* first, float* second, float* firstResult, float* secondResult)
    {
        float* m0 = matrix, m4 = matrix + 4 * stride;
        nint three = 3 * stride;
        Vector512<float> a0 = default, a1 = default, a2 = default, a3 = default, a4 = default, a5 = default, a6 = default, a7 = default;
        Vector512<float> b0 = default, b1 = default, b2 = default, b3 = default, b4 = default, b5 = default, b6 = default, b7 = default;
        for (int at = 0; at < length; at += Step, m0 += Step, m4 += Step)
        {
            var (x, y) = (Vector512.Load(first + at), Vector512.Load(second + at));
            var m = Vector512.Load(m0);
            a0 = Vector512.FusedMultiplyAdd(m, x, a0);
            b0 = Vector512.FusedMultiplyAdd(m, y, b0);
            m = Vector512.Load(m0 + stride);
            a1 = Vector512.FusedMultiplyAdd(m, x, a1);
            b1 = Vector512.FusedMultiplyAdd(m, y, b1);
            m = Vector512.Load(m0 + 2 * stride);
            a2 = Vector512.FusedMultiplyAdd(m, x, a2);
            b2 = Vector512.FusedMultiplyAdd(m, y, b2);
            m = Vector512.Load(m0 + three);
            a3 = Vector512.FusedMultiplyAdd(m, x, a3);
            b3 = Vector512.FusedMultiplyAdd(m, y, b3);
            m = Vector512.Load(m4);
            a4 = Vector512.FusedMultiplyAdd(m, x, a4);
            b4 = Vector512.FusedMultiplyAdd(m, y, b4);
            m = Vector512.Load(m4 + stride);
            a5 = Vector512.FusedMultiplyAdd(m, x, a5);
            b5 = Vector512.FusedMultiplyAdd(m, y, b5);
            m = Vector512.Load(m4 + 2 * stride);
            a6 = Vector512.FusedMultiplyAdd(m, x, a6);
            b6 = Vector512.FusedMultiplyAdd(m, y, b6);
            m = Vector512.Load(m4 + three);
            a7 = Vector512.FusedMultiplyAdd(m, x, a7);
            b7 = Vector512.FusedMultiplyAdd(m, y, b7);
        }
        Sums(a0, a1, a2, a3, a4, a5, a6, a7).Store(firstResult);
        Sums(b0, b1, b2, b3, b4, b5, b6, b7).Store(secondResult);
    }

    /// <summary>The sum of each vector.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Sums(
        Vector512<float> v0, Vector512<float> v1, Vector512<float> v2, Vector512<float> v3, Vector512<float> v4, Vector512<float> v5, Vector512<float> v6, Vector512<float> v7)
    {
        // [0 1 2 3] and [4 5 6 7] in each quarter, then quarters and halves are added.
        var (front, back) = (Fours(v0, v1, v2, v3), Fours(v4, v5, v6, v7));
        var (frontHalf, backHalf) = (front.GetLower() + front.GetUpper(), back.GetLower() + back.GetUpper());
        return Vector256.Create(frontHalf.GetLower() + frontHalf.GetUpper(), backHalf.GetLower() + backHalf.GetUpper());
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector512<float> Fours(Vector512<float> v0, Vector512<float> v1, Vector512<float> v2, Vector512<float> v3)
    {
        var (front, back) = (Avx512F.UnpackLow(v0, v1) + Avx512F.UnpackHigh(v0, v1), Avx512F.UnpackLow(v2, v3) + Avx512F.UnpackHigh(v2, v3));
        var (even, odd) = (Avx512F.UnpackLow(front.AsDouble(), back.AsDouble()), Avx512F.UnpackHigh(front.AsDouble(), back.AsDouble()));
        return even.AsSingle() + odd.AsSingle();
    }
}
