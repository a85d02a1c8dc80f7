using ILGPU;
using ILGPU.Runtime;
using Pcrl.Kernels.Gpu;

namespace Pcrl.Kernels.Pooling;

/// <summary>
/// <see cref="MaxPool2d"/> and <see cref="AdaptiveAvgPool2d"/> on a GPU. A thread takes one channel, or four of them in bfloat16, and
/// neighbouring threads neighbouring channels; a large window is shared by eight threads.
/// </summary>
internal sealed class GpuPooling : Layer
{
    private const int Warp = 32, Sharers = 8, Large = 64;

    private readonly Action<GpuTensor, GpuTensor> _run;

    private GpuPooling(GpuDevice device, Operator op, Shape input, Action<GpuTensor, GpuTensor> run)
        : base(device, op, input) => _run = run;

    public static GpuPooling Create(GpuDevice device, MaxPool2d op, Shape input)
    {
        var d = Dimensions.Of(input, op.OutputShape(input)) with
        {
            KernelH = op.Kernel.H, KernelW = op.Kernel.W, StrideH = op.Stride.H, StrideW = op.Stride.W, PaddingH = op.Padding.H, PaddingW = op.Padding.W,
        };
        return new GpuPooling(device, op, input, device.Precision == Precision.Fp32 ? Bind<float>(device, MaxKernel<float, Fp32Element>, t => t.Floats, d)
            : input.C % 4 == 0 ? Bind<ulong>(device, MaxKernel<ulong, Bf16QuadElement>, t => t.Halves.Cast<ulong>(), d with { Channels = input.C / 4 })
            : Bind<ushort>(device, MaxKernel<ushort, Bf16Element>, t => t.Halves, d));
    }

    public static GpuPooling Create(GpuDevice device, AdaptiveAvgPool2d op, Shape input)
    {
        var output = op.OutputShape(input);
        var d = Dimensions.Of(input, output);
        bool large = (long)input.H * input.W / ((long)output.H * output.W) >= Large;
        return new GpuPooling(device, op, input, device.Precision == Precision.Fp32 ? Mean<float, Fp32Element>(t => t.Floats, d)
            : input.C % 4 == 0 ? Mean<ulong, Bf16QuadElement>(t => t.Halves.Cast<ulong>(), d with { Channels = input.C / 4 })
            : Mean<ushort, Bf16Element>(t => t.Halves, d));

        Action<GpuTensor, GpuTensor> Mean<T, TElement>(Func<GpuTensor, ArrayView<T>> values, Dimensions dimensions)
            where T : unmanaged
            where TElement : unmanaged, IElement<T>
        {
            if (!large)
                return Bind(device, MeanKernel<T, TElement>, values, dimensions);
            var launch = device.Accelerator.LoadStreamKernel<ArrayView<T>, ArrayView<T>, Dimensions>(LargeMeanKernel<T, TElement>);
            var config = new KernelConfig(checked(output.N * output.H * output.W * dimensions.Blocks), Warp * Sharers);
            return (x, y) => launch(config, values(x), values(y), dimensions);
        }
    }

    public override void Dispose()
    {
    }

    internal static void MaxKernel<T, TElement>(Index1D index, ArrayView<T> input, ArrayView<T> output, Dimensions d)
        where T : unmanaged
        where TElement : unmanaged, IElement<T>
    {
        TElement element = default;
        var (pixel, channel) = d.Split(index, d.Channels);
        var (line, x) = d.Split(pixel, d.OutputWidth);
        var (image, y) = d.Split(line, d.OutputHeight);
        int top = y * d.StrideH - d.PaddingH, left = x * d.StrideW - d.PaddingW;
        int bottom = IntrinsicMath.Min(top + d.KernelH, d.Height), right = IntrinsicMath.Min(left + d.KernelW, d.Width);
        var best = new Channels { A = float.NegativeInfinity, B = float.NegativeInfinity, C = float.NegativeInfinity, D = float.NegativeInfinity };
        for (int i = IntrinsicMath.Max(top, 0); i < bottom; i++)
            for (int j = IntrinsicMath.Max(left, 0); j < right; j++)
            {
                var value = element.ToFloats(input[d.At(image, i, j) + channel]);
                best.A = Greater(value.A, best.A);
                best.B = Greater(value.B, best.B);
                best.C = Greater(value.C, best.C);
                best.D = Greater(value.D, best.D);
            }
        output[index] = element.FromFloats(best);

        // A NaN wins, and nothing is greater than it afterwards.
        static float Greater(float value, float best) => value > best || float.IsNaN(value) ? value : best;
    }

    internal static void MeanKernel<T, TElement>(Index1D index, ArrayView<T> input, ArrayView<T> output, Dimensions d)
        where T : unmanaged
        where TElement : unmanaged, IElement<T>
    {
        var (pixel, channel) = d.Split(index, d.Channels);
        var window = d.WindowOf(pixel);
        output[index] = default(TElement).FromFloats(Scaled(Sum<T, TElement>(input, d, window, channel, 0, 1), window.Pixels));
    }

    /// <summary>A group takes 32 neighbouring values of an output pixel; each of its warps every eighth pixel of the window.</summary>
    internal static void LargeMeanKernel<T, TElement>(ArrayView<T> input, ArrayView<T> output, Dimensions d)
        where T : unmanaged
        where TElement : unmanaged, IElement<T>
    {
        var sums = SharedMemory.Allocate<Channels>(Warp * Sharers);
        var (pixel, block) = d.Split(Grid.IdxX, d.Blocks);
        int lane = Group.IdxX % Warp, sharer = Group.IdxX / Warp, channel = block * Warp + lane;
        var window = d.WindowOf(pixel);
        if (channel < d.Channels)
            sums[Group.IdxX] = Sum<T, TElement>(input, d, window, channel, sharer, Sharers);
        Group.Barrier();
        if (sharer > 0 || channel >= d.Channels)
            return;
        var sum = sums[lane];
        for (int other = 1; other < Sharers; other++)
            sum = Plus(sum, sums[other * Warp + lane]);
        output[(long)pixel * d.Channels + channel] = default(TElement).FromFloats(Scaled(sum, window.Pixels));
    }

    private protected override void Execute(Tensor input, Tensor output, Tensor? residual) => _run((GpuTensor)input, (GpuTensor)output);

    private static Channels Sum<T, TElement>(ArrayView<T> input, Dimensions d, Window window, int channel, int first, int step)
        where T : unmanaged
        where TElement : unmanaged, IElement<T>
    {
        Channels sum = default;
        for (int p = first; p < window.Pixels; p += step)
        {
            var (i, j) = d.Split(p, window.Width);
            sum = Plus(sum, default(TElement).ToFloats(input[d.At(window.Image, window.Top + i, window.Left + j) + channel]));
        }
        return sum;
    }

    private static Channels Plus(Channels a, Channels b) => new() { A = a.A + b.A, B = a.B + b.B, C = a.C + b.C, D = a.D + b.D };

    private static Channels Scaled(Channels sum, int by) => new() { A = sum.A / by, B = sum.B / by, C = sum.C / by, D = sum.D / by };

    private static Action<GpuTensor, GpuTensor> Bind<T>(GpuDevice device, Action<Index1D, ArrayView<T>, ArrayView<T>, Dimensions> kernel,
        Func<GpuTensor, ArrayView<T>> values, Dimensions d)
        where T : unmanaged
    {
        var launch = device.Accelerator.LoadAutoGroupedStreamKernel(kernel);
        return (input, output) => launch(checked((int)values(output).Length), values(input), values(output), d);
    }

    /// <summary>What an output pixel is the mean of.</summary>
    internal struct Window
    {
        public int Image, Top, Left, Width, Pixels;
    }

    /// <summary>Sizes that the kernels need, channels counted in what a thread takes at once; the mean's have no kernel.</summary>
    internal struct Dimensions
    {
        public int Height, Width, OutputHeight, OutputWidth, Channels;
        public int KernelH, KernelW, StrideH, StrideW, PaddingH, PaddingW;

        /// <summary>Groups that the channels of a pixel fill.</summary>
        public readonly int Blocks => (Channels + Warp - 1) / Warp;

        public static Dimensions Of(Shape input, Shape output) => new()
        {
            Height = input.H, Width = input.W, OutputHeight = output.H, OutputWidth = output.W, Channels = input.C,
        };

        /// <summary>Quotient and remainder of what is not negative: unsigned division is the cheaper one.</summary>
        public readonly (int Quotient, int Remainder) Split(int value, int by)
        {
            int quotient = (int)((uint)value / (uint)by);
            return (quotient, value - quotient * by);
        }

        /// <summary>Where a pixel of the input begins.</summary>
        public readonly long At(int image, int y, int x) => (((long)image * Height + y) * Width + x) * Channels;

        public readonly Window WindowOf(int pixel)
        {
            var (line, x) = Split(pixel, OutputWidth);
            var (image, y) = Split(line, OutputHeight);
            var (top, _) = Split(y * Height, OutputHeight);
            var (bottom, _) = Split((y + 1) * Height + OutputHeight - 1, OutputHeight);
            var (left, _) = Split(x * Width, OutputWidth);
            var (right, _) = Split((x + 1) * Width + OutputWidth - 1, OutputWidth);
            return new Window { Image = image, Top = top, Left = left, Width = right - left, Pixels = (bottom - top) * (right - left) };
        }
    }
}
