using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;

namespace Pcrl.Kernels.Convolution;

/// <summary>6 rows × 16 columns: 12 of the 16 registers hold sums. The same job as <see cref="Tile512"/> for processors without 512-bit vectors.</summary>
internal static unsafe class Tile256
{
    public const int Rows = 6;
    public const int Columns = 16;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Run(in TileJob job)
    {
        float* bias = job.Bias;
        Vector256<float> bias0 = Vector256.Load(bias);
        Vector256<float> bias1 = Vector256.Load(bias + 8);
        Vector256<float> s00 = bias0, s01 = bias1;
        Vector256<float> s10 = bias0, s11 = bias1;
        Vector256<float> s20 = bias0, s21 = bias1;
        Vector256<float> s30 = bias0, s31 = bias1;
        Vector256<float> s40 = bias0, s41 = bias1;
        Vector256<float> s50 = bias0, s51 = bias1;
        float** source = job.Source;
        float* weight = job.Weight;
        int depth = job.Depth;
        for (int tap = job.Taps; tap > 0; tap--, source += job.SourceStride)
        {
            float* r0 = source[0], r1 = source[1], r2 = source[2], r3 = source[3], r4 = source[4], r5 = source[5];
            for (int k = 0; k < depth; k++, weight += Columns)
            {
                var w0 = Vector256.Load(weight);
                var w1 = Vector256.Load(weight + 8);
                var x0 = Vector256.Create(r0[k]);
                s00 = Vector256.FusedMultiplyAdd(x0, w0, s00);
                s01 = Vector256.FusedMultiplyAdd(x0, w1, s01);
                var x1 = Vector256.Create(r1[k]);
                s10 = Vector256.FusedMultiplyAdd(x1, w0, s10);
                s11 = Vector256.FusedMultiplyAdd(x1, w1, s11);
                var x2 = Vector256.Create(r2[k]);
                s20 = Vector256.FusedMultiplyAdd(x2, w0, s20);
                s21 = Vector256.FusedMultiplyAdd(x2, w1, s21);
                var x3 = Vector256.Create(r3[k]);
                s30 = Vector256.FusedMultiplyAdd(x3, w0, s30);
                s31 = Vector256.FusedMultiplyAdd(x3, w1, s31);
                var x4 = Vector256.Create(r4[k]);
                s40 = Vector256.FusedMultiplyAdd(x4, w0, s40);
                s41 = Vector256.FusedMultiplyAdd(x4, w1, s41);
                var x5 = Vector256.Create(r5[k]);
                s50 = Vector256.FusedMultiplyAdd(x5, w0, s50);
                s51 = Vector256.FusedMultiplyAdd(x5, w1, s51);
            }
        }
        Store(job, 0, s00, s01);
        Store(job, 1, s10, s11);
        Store(job, 2, s20, s21);
        Store(job, 3, s30, s31);
        Store(job, 4, s40, s41);
        Store(job, 5, s50, s51);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(in TileJob job, int row, Vector256<float> sum0, Vector256<float> sum1)
    {
        long at = job.Target[row];
        if (job.Residual != null)
        {
            sum0 += Vector256.Load(job.Residual + at);
            sum1 += Vector256.Load(job.Residual + at + 8);
        }
        if (job.Relu)
        {
            sum0 = Vector256.ConditionalSelect(Vector256.LessThan(sum0, Vector256<float>.Zero), Vector256<float>.Zero, sum0); // not Max: a NaN must stay one
            sum1 = Vector256.ConditionalSelect(Vector256.LessThan(sum1, Vector256<float>.Zero), Vector256<float>.Zero, sum1); // not Max: a NaN must stay one
        }
        sum0.Store(job.Output + at);
        sum1.Store(job.Output + at + 8);
    }
}
