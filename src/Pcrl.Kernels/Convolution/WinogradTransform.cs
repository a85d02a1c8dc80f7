using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics.X86;
using Pcrl.Kernels.Cpu;

namespace Pcrl.Kernels.Convolution;

/// <summary>
/// The three transforms of Winograd's minimal filtering F(4×4, 3×3): Y = Aᵀ[(G g Gᵀ) ∘ (Bᵀ d B)]A, by interpolation at 0, ±a, ±b and ∞.
/// Each works on one vector of channels; the two-dimensional transform is the one-dimensional one along columns, then along rows.
/// </summary>
internal static unsafe class WinogradTransform<V, T>
    where V : struct
    where T : IFloatVector<V>
{
    /// <summary>How far ahead weights are fetched, in taps: they come from far away, and too many at a time for the processor to guess.</summary>
    private const int Ahead = 4 * 9;

    private const float A = WinogradPoints.A, B = WinogradPoints.B;
    private const int Side = WinogradPoints.Side, Frequencies = WinogradPoints.Frequencies, Outputs = WinogradPoints.Outputs;

    /// <summary>Six by six pixels → 36 frequencies, for all channels.</summary>
    /// <param name="pixels">[36] start of each pixel's channels.</param>
    /// <param name="channels">Channels, a multiple of the vector's.</param>
    /// <param name="to">First channel of frequency 0.</param>
    /// <param name="stride">Floats from one frequency to the next.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void Input(float** pixels, int channels, float* to, long stride)
    {
        float* columns = stackalloc float[Frequencies * T.Lanes]; // [column, row]
        V minusA2 = T.All(-A * A), minusB2 = T.All(-B * B), minusSum = T.All(-(A * A + B * B)), product = T.All(A * A * B * B);
        V a = T.All(A), b = T.All(B), minusA = T.All(-A), minusB = T.All(-B);
        for (int channel = 0; channel < channels; channel += T.Lanes, to += T.Lanes)
        {
            for (int column = 0; column < Side; column++)
            {
                float** pixel = pixels + column;
                V d0 = T.Load(pixel[0] + channel), d1 = T.Load(pixel[6] + channel), d2 = T.Load(pixel[12] + channel);
                V d3 = T.Load(pixel[18] + channel), d4 = T.Load(pixel[24] + channel), d5 = T.Load(pixel[30] + channel);
                float* at = columns + column * Side * T.Lanes;
                V evenA = T.MultiplyAdd(minusB2, d2, d4), oddA = T.MultiplyAdd(minusB2, d1, d3);
                V evenB = T.MultiplyAdd(minusA2, d2, d4), oddB = T.MultiplyAdd(minusA2, d1, d3);
                T.Store(T.MultiplyAdd(product, d0, T.MultiplyAdd(minusSum, d2, d4)), at);
                T.Store(T.MultiplyAdd(a, oddA, evenA), at + T.Lanes);
                T.Store(T.MultiplyAdd(minusA, oddA, evenA), at + 2 * T.Lanes);
                T.Store(T.MultiplyAdd(b, oddB, evenB), at + 3 * T.Lanes);
                T.Store(T.MultiplyAdd(minusB, oddB, evenB), at + 4 * T.Lanes);
                T.Store(T.MultiplyAdd(product, d1, T.MultiplyAdd(minusSum, d3, d5)), at + 5 * T.Lanes);
            }
            float* frequency = to;
            for (int row = 0; row < Side; row++, frequency += Side * stride)
            {
                float* from = columns + row * T.Lanes;
                V d0 = T.Load(from), d1 = T.Load(from + Side * T.Lanes), d2 = T.Load(from + 2 * Side * T.Lanes);
                V d3 = T.Load(from + 3 * Side * T.Lanes), d4 = T.Load(from + 4 * Side * T.Lanes), d5 = T.Load(from + 5 * Side * T.Lanes);
                V evenA = T.MultiplyAdd(minusB2, d2, d4), oddA = T.MultiplyAdd(minusB2, d1, d3);
                V evenB = T.MultiplyAdd(minusA2, d2, d4), oddB = T.MultiplyAdd(minusA2, d1, d3);
                T.Store(T.MultiplyAdd(product, d0, T.MultiplyAdd(minusSum, d2, d4)), frequency);
                T.Store(T.MultiplyAdd(a, oddA, evenA), frequency + stride);
                T.Store(T.MultiplyAdd(minusA, oddA, evenA), frequency + 2 * stride);
                T.Store(T.MultiplyAdd(b, oddB, evenB), frequency + 3 * stride);
                T.Store(T.MultiplyAdd(minusB, oddB, evenB), frequency + 4 * stride);
                T.Store(T.MultiplyAdd(product, d1, T.MultiplyAdd(minusSum, d3, d5)), frequency + 5 * stride);
            }
        }
    }

    /// <summary>Three by three taps → 36 frequencies, for some input channels of one panel.</summary>
    /// <param name="taps">[depth, 9, width].</param>
    /// <param name="depth">Input channels.</param>
    /// <param name="width">Output channels, a multiple of the vector's.</param>
    /// <param name="to">[depth, width] of frequency 0.</param>
    /// <param name="stride">Floats from one frequency to the next.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static void Weights(float* taps, int depth, int width, float* to, long stride)
    {
        float* columns = stackalloc float[3 * Side * T.Lanes]; // [column, row]
        V n0 = T.All(1 / (A * A * B * B));
        V a0 = T.All(1 / (2 * A * A * (A * A - B * B))), a1 = T.All(A / (2 * A * A * (A * A - B * B))), a2 = T.All(A * A / (2 * A * A * (A * A - B * B)));
        V b0 = T.All(1 / (2 * B * B * (B * B - A * A))), b1 = T.All(B / (2 * B * B * (B * B - A * A))), b2 = T.All(B * B / (2 * B * B * (B * B - A * A)));
        for (int i = 0; i < depth * width; i += T.Lanes, taps += i % width == 0 ? 8 * width + T.Lanes : T.Lanes)
        {
            for (int column = 0; column < 3; column++)
            {
                float* from = taps + column * width;
                V g0 = T.Load(from), g1 = T.Load(from + 3 * width), g2 = T.Load(from + 6 * width);
                if (Sse.IsSupported)
                {
                    Sse.Prefetch0(from + Ahead * width);
                    Sse.Prefetch0(from + (Ahead + 3) * width);
                    Sse.Prefetch0(from + (Ahead + 6) * width);
                }
                float* at = columns + column * Side * T.Lanes;
                V evenA = T.MultiplyAdd(a2, g2, T.Multiply(a0, g0)), oddA = T.Multiply(a1, g1);
                V evenB = T.MultiplyAdd(b2, g2, T.Multiply(b0, g0)), oddB = T.Multiply(b1, g1);
                T.Store(T.Multiply(n0, g0), at);
                T.Store(T.Add(evenA, oddA), at + T.Lanes);
                T.Store(T.Subtract(evenA, oddA), at + 2 * T.Lanes);
                T.Store(T.Add(evenB, oddB), at + 3 * T.Lanes);
                T.Store(T.Subtract(evenB, oddB), at + 4 * T.Lanes);
                T.Store(g2, at + 5 * T.Lanes);
            }
            float* frequency = to + i;
            for (int row = 0; row < Side; row++, frequency += Side * stride)
            {
                float* from = columns + row * T.Lanes;
                V g0 = T.Load(from), g1 = T.Load(from + Side * T.Lanes), g2 = T.Load(from + 2 * Side * T.Lanes);
                V evenA = T.MultiplyAdd(a2, g2, T.Multiply(a0, g0)), oddA = T.Multiply(a1, g1);
                V evenB = T.MultiplyAdd(b2, g2, T.Multiply(b0, g0)), oddB = T.Multiply(b1, g1);
                T.Store(T.Multiply(n0, g0), frequency);
                T.Store(T.Add(evenA, oddA), frequency + stride);
                T.Store(T.Subtract(evenA, oddA), frequency + 2 * stride);
                T.Store(T.Add(evenB, oddB), frequency + 3 * stride);
                T.Store(T.Subtract(evenB, oddB), frequency + 4 * stride);
                T.Store(g2, frequency + 5 * stride);
            }
        }
    }

    /// <summary>36 frequencies → four by four output pixels with bias, residual and ReLU, for the columns of one panel.</summary>
    /// <param name="from">Frequency 0.</param>
    /// <param name="stride">Floats from one frequency to the next.</param>
    /// <param name="columns">Output channels, a multiple of the vector's.</param>
    /// <param name="bias">[columns].</param>
    /// <param name="target">[16] offset of each pixel, −1 for one outside the image.</param>
    /// <param name="output">Output at offset 0.</param>
    /// <param name="residual">The same place in the residual, or null.</param>
    /// <param name="relu">Negative results become zero.</param>
    /// <returns>False, with nothing written, if a sum is not finite: it would spoil outputs that do not depend on what made it so.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    public static bool Output(float* from, long stride, int columns, float* bias, long* target, float* output, float* residual, bool relu)
    {
        float* halves = stackalloc float[Outputs * Side * columns]; // [vector, column, row]
        V a = T.All(A), b = T.All(B), a2 = T.All(A * A), b2 = T.All(B * B), a3 = T.All(A * A * A), b3 = T.All(B * B * B);
        V poison = T.All(0), zero = poison; // 0·x is 0 for a finite x, else NaN
        for (int channel = 0; channel < columns; channel += T.Lanes)
        {
            float* half = halves + channel * Outputs * Side;
            for (int column = 0; column < Side; column++)
            {
                float* m = from + channel + column * stride;
                V m1 = T.Load(m + 6 * stride), m2 = T.Load(m + 12 * stride), m3 = T.Load(m + 18 * stride), m4 = T.Load(m + 24 * stride);
                V sumA = T.Add(m1, m2), differenceA = T.Subtract(m1, m2), sumB = T.Add(m3, m4), differenceB = T.Subtract(m3, m4);
                float* at = half + column * Outputs * T.Lanes;
                V even = T.Add(T.Add(T.Load(m), sumA), sumB), odd = T.MultiplyAdd(a3, differenceA, T.MultiplyAdd(b3, differenceB, T.Load(m + 30 * stride)));
                poison = T.MultiplyAdd(zero, odd, T.MultiplyAdd(zero, even, poison)); // the two that together depend on all six
                T.Store(even, at);
                T.Store(T.MultiplyAdd(a, differenceA, T.Multiply(b, differenceB)), at + T.Lanes);
                T.Store(T.MultiplyAdd(a2, sumA, T.Multiply(b2, sumB)), at + 2 * T.Lanes);
                T.Store(odd, at + 3 * T.Lanes);
            }
        }
        if (!T.IsZero(poison))
            return false;
        for (int channel = 0; channel < columns; channel += T.Lanes)
        {
            float* half = halves + channel * Outputs * Side;
            V shift = T.Load(bias + channel);
            for (int row = 0; row < Outputs; row++)
            {
                float* m = half + row * T.Lanes;
                V m1 = T.Load(m + Outputs * T.Lanes), m2 = T.Load(m + 2 * Outputs * T.Lanes);
                V m3 = T.Load(m + 3 * Outputs * T.Lanes), m4 = T.Load(m + 4 * Outputs * T.Lanes);
                V sumA = T.Add(m1, m2), differenceA = T.Subtract(m1, m2), sumB = T.Add(m3, m4), differenceB = T.Subtract(m3, m4);
                V m0 = T.Add(T.Load(m), shift), m5 = T.Add(T.Load(m + 5 * Outputs * T.Lanes), shift);
                long* pixel = target + row * Outputs;
                Finish(T.Add(T.Add(m0, sumA), sumB), pixel[0], channel, output, residual, relu);
                Finish(T.MultiplyAdd(a, differenceA, T.MultiplyAdd(b, differenceB, shift)), pixel[1], channel, output, residual, relu);
                Finish(T.MultiplyAdd(a2, sumA, T.MultiplyAdd(b2, sumB, shift)), pixel[2], channel, output, residual, relu);
                Finish(T.MultiplyAdd(a3, differenceA, T.MultiplyAdd(b3, differenceB, m5)), pixel[3], channel, output, residual, relu);
            }
        }
        return true;
    }

    /// <summary>
    /// One output pixel of one panel in the plain way, for tiles that <see cref="Output"/> leaves out: a NaN or infinity goes exactly where it belongs.
    /// </summary>
    /// <param name="pixels">[9] start of the channels of the pixel under each tap, null in the padding.</param>
    /// <param name="channels">Input channels.</param>
    /// <param name="taps">[channels, 9, columns].</param>
    /// <param name="columns">Output channels, a multiple of the vector's.</param>
    /// <param name="bias">[columns].</param>
    /// <param name="pixel">Offset of the output pixel.</param>
    /// <param name="output">Output at offset 0.</param>
    /// <param name="residual">The same place in the residual, or null.</param>
    /// <param name="relu">Negative results become zero.</param>
    public static void Direct(float** pixels, int channels, float* taps, int columns, float* bias, long pixel, float* output, float* residual, bool relu)
    {
        for (int column = 0; column < columns; column += T.Lanes)
        {
            V sum = T.Load(bias + column);
            for (int channel = 0; channel < channels; channel++)
                for (int tap = 0; tap < 9; tap++)
                    if (pixels[tap] != null)
                        sum = T.MultiplyAdd(T.All(pixels[tap][channel]), T.Load(taps + (channel * 9 + tap) * columns + column), sum);
            Finish(sum, pixel, column, output, residual, relu);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Finish(V value, long pixel, int channel, float* output, float* residual, bool relu)
    {
        if (pixel < 0)
            return;
        if (residual != null)
            value = T.Add(value, T.Load(residual + pixel + channel));
        T.Store(relu ? T.Relu(value) : value, output + pixel + channel);
    }
}

/// <summary>Sizes of the transform and the finite points ±A, ±B beside 0.</summary>
internal static class WinogradPoints
{
    public const float A = 0.70710678f;
    public const float B = 1.41421356f;

    /// <summary>Side of a tile of outputs.</summary>
    public const int Outputs = 4;

    /// <summary>Side of the tile of inputs that they need.</summary>
    public const int Side = 6;

    /// <summary>Products per tile and pair of channels.</summary>
    public const int Frequencies = Side * Side;
}
