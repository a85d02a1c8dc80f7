using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace Pcrl.Kernels.Convolution;

/// <summary>
/// 8 rows × 32 columns: 16 of the 32 registers hold sums, so each pair of weight vectors loaded feeds 16 multiply-adds and the
/// multiply-add units, not the loads, are the limit. Written out by hand because the JIT keeps only named locals in registers.
/// </summary>
internal static unsafe class Tile512
{
    public const int Rows = 8;
    public const int Columns = 32;

    /// <summary>Floats of a cache line.</summary>
    private const int Line = 16;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Run(in TileJob job)
    {
        float* bias = job.Bias;
        Vector512<float> bias0 = Vector512.Load(bias);
        Vector512<float> bias1 = Vector512.Load(bias + 16);
        Vector512<float> s00 = bias0, s01 = bias1;
        Vector512<float> s10 = bias0, s11 = bias1;
        Vector512<float> s20 = bias0, s21 = bias1;
        Vector512<float> s30 = bias0, s31 = bias1;
        Vector512<float> s40 = bias0, s41 = bias1;
        Vector512<float> s50 = bias0, s51 = bias1;
        Vector512<float> s60 = bias0, s61 = bias1;
        Vector512<float> s70 = bias0, s71 = bias1;
        float** source = job.Source;
        float* weight = job.Weight;
        int depth = job.Depth;
        Prefetch(job);
        long ahead = job.Ahead;
        for (int tap = job.Taps; tap > 0; tap--, source += job.SourceStride)
        {
            float* r0 = source[0], r1 = source[1], r2 = source[2], r3 = source[3], r4 = source[4], r5 = source[5], r6 = source[6], r7 = source[7];
            for (int k = 0; k < depth;)
            {
                int end = Math.Min(k + Line, depth);
                if (ahead != 0)
                {
                    Sse.Prefetch0(r0 + k + ahead);
                    Sse.Prefetch0(r1 + k + ahead);
                    Sse.Prefetch0(r2 + k + ahead);
                    Sse.Prefetch0(r3 + k + ahead);
                    Sse.Prefetch0(r4 + k + ahead);
                    Sse.Prefetch0(r5 + k + ahead);
                    Sse.Prefetch0(r6 + k + ahead);
                    Sse.Prefetch0(r7 + k + ahead);
                }
                for (; k < end; k++, weight += Columns)
                {
                    var w0 = Vector512.Load(weight);
                    var w1 = Vector512.Load(weight + 16);
                    var x0 = Vector512.Create(r0[k]);
                    s00 = Vector512.FusedMultiplyAdd(x0, w0, s00);
                    s01 = Vector512.FusedMultiplyAdd(x0, w1, s01);
                    var x1 = Vector512.Create(r1[k]);
                    s10 = Vector512.FusedMultiplyAdd(x1, w0, s10);
                    s11 = Vector512.FusedMultiplyAdd(x1, w1, s11);
                    var x2 = Vector512.Create(r2[k]);
                    s20 = Vector512.FusedMultiplyAdd(x2, w0, s20);
                    s21 = Vector512.FusedMultiplyAdd(x2, w1, s21);
                    var x3 = Vector512.Create(r3[k]);
                    s30 = Vector512.FusedMultiplyAdd(x3, w0, s30);
                    s31 = Vector512.FusedMultiplyAdd(x3, w1, s31);
                    var x4 = Vector512.Create(r4[k]);
                    s40 = Vector512.FusedMultiplyAdd(x4, w0, s40);
                    s41 = Vector512.FusedMultiplyAdd(x4, w1, s41);
                    var x5 = Vector512.Create(r5[k]);
                    s50 = Vector512.FusedMultiplyAdd(x5, w0, s50);
                    s51 = Vector512.FusedMultiplyAdd(x5, w1, s51);
                    var x6 = Vector512.Create(r6[k]);
                    s60 = Vector512.FusedMultiplyAdd(x6, w0, s60);
                    s61 = Vector512.FusedMultiplyAdd(x6, w1, s61);
                    var x7 = Vector512.Create(r7[k]);
                    s70 = Vector512.FusedMultiplyAdd(x7, w0, s70);
                    s71 = Vector512.FusedMultiplyAdd(x7, w1, s71);
                }
            }
        }
        Store(job, 0, s00, s01);
        Store(job, 1, s10, s11);
        Store(job, 2, s20, s21);
        Store(job, 3, s30, s31);
        Store(job, 4, s40, s41);
        Store(job, 5, s50, s51);
        Store(job, 6, s60, s61);
        Store(job, 7, s70, s71);
    }

    /// <summary>What the sums will be added to and stored in is asked for now, so that it has arrived when they are ready.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Prefetch(in TileJob job)
    {
        if (!Sse.IsSupported)
            return;
        for (int row = 0; row < Rows; row++)
        {
            float* at = job.Output + job.Target[row];
            Sse.Prefetch0(at);
            Sse.Prefetch0(at + Line);
            if (job.Residual != null && job.Residual != job.Output)
            {
                at = job.Residual + job.Target[row];
                Sse.Prefetch0(at);
                Sse.Prefetch0(at + Line);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(in TileJob job, int row, Vector512<float> sum0, Vector512<float> sum1)
    {
        long at = job.Target[row];
        if (job.Residual != null)
        {
            sum0 += Vector512.Load(job.Residual + at);
            sum1 += Vector512.Load(job.Residual + at + 16);
        }
        if (job.Relu)
        {
            sum0 = Vector512.ConditionalSelect(Vector512.LessThan(sum0, Vector512<float>.Zero), Vector512<float>.Zero, sum0); // not Max: a NaN must stay one
            sum1 = Vector512.ConditionalSelect(Vector512.LessThan(sum1, Vector512<float>.Zero), Vector512<float>.Zero, sum1); // not Max: a NaN must stay one
        }
        sum0.Store(job.Output + at);
        sum1.Store(job.Output + at + 16);
    }
}
