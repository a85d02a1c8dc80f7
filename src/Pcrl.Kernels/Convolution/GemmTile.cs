using ILGPU;

namespace Pcrl.Kernels.Convolution;

/// <summary>
/// The fp32 kernel of <see cref="GpuConvolution"/>: a group of 64 threads computes 64 output rows × 64 channels, a thread 8 × 8 of them. Eight
/// input channels of one tap are in shared memory while the next eight are on their way into registers. It needs neither shuffles nor half
/// precision, so it runs on everything that ILGPU drives.
/// </summary>
internal static class GemmTile
{
    /// <summary>Output rows and columns of a group.</summary>
    public const int Side = 64;

    /// <summary>Input channels of a step.</summary>
    public const int Depth = 8;

    /// <summary>Threads of a group.</summary>
    public const int Threads = Side;

    /// <summary>Threads side by side; a thread has four rows (columns) at 4·its place and four more half a tile further on.</summary>
    private const int Across = 8, Half = Side / 2;

    /// <summary>Floats from one input channel to the next in shared memory: four more than rows, so that the channels of a row fall on different banks.</summary>
    private const int RowStride = Side + 4;

    public static void Kernel(ArrayView<float> input, ArrayView<float> output, ArrayView<float> residual, ArrayView<int> taps,
        ArrayView<float> weight, ArrayView<float> bias, Dimensions d)
    {
        // One half of each is read while the other is filled.
        var rows = SharedMemory.Allocate<float>(2 * Depth * RowStride);
        var columns = SharedMemory.Allocate<float>(2 * Depth * Side);
        var pixels = SharedMemory.Allocate<long>(2 * Side); // where the rows of a tap read, −1 in the padding
        int thread = Group.IdxX;
        int firstRow = Grid.IdxX / d.ColumnTiles * Side, firstColumn = Grid.IdxX % d.ColumnTiles * Side;

        var place = d.Place(firstRow + thread);
        int steps = (d.Depth + Depth - 1) / Depth, columnStride = d.ColumnTiles * Side, all = d.Taps * steps;
        long w = firstColumn + thread;
        // Of a step, a thread reads one channel of every eighth row, so that eight threads read one line of memory, and one column of weights.
        int channel = thread % Across, line = thread / Across;

        Quad c0 = default, c1 = default, c2 = default, c3 = default, c4 = default, c5 = default, c6 = default, c7 = default;
        Quad e0 = default, e1 = default, e2 = default, e3 = default, e4 = default, e5 = default, e6 = default, e7 = default;
        if (d.Taps > 0)
            pixels[thread] = d.Source(place, taps[0], taps[1]);
        Group.Barrier();
        Octet nextRows = default, nextColumns = default;
        if (all > 0)
        {
            nextRows = Octet.Gather(input, pixels, line, channel, channel < d.Depth);
            nextColumns = Octet.Read(weight, w, columnStride);
        }
        int buffer = 0, tap = 0, step = 0;
        for (int i = 0; i < all; i++)
        {
            nextRows.Store(rows, buffer * (Depth * RowStride) + channel * RowStride + line, Across);
            nextColumns.Store(columns, buffer * (Depth * Side) + thread, Side);
            if (step == 0 && tap + 1 < d.Taps)
                pixels[(tap + 1) % 2 * Side + thread] = d.Source(place, taps[2 * tap + 2], taps[2 * tap + 3]);
            Group.Barrier(); // the only one: who comes to fill this half again has passed the other half's barrier
            step++;
            if (step == steps)
            {
                step = 0;
                tap++;
            }
            if (i + 1 < all)
            {
                w += (long)Depth * columnStride;
                int k = step * Depth + channel;
                nextRows = Octet.Gather(input, pixels, tap % 2 * Side + line, k, k < d.Depth);
                nextColumns = Octet.Read(weight, w, columnStride);
            }

            int a = buffer * (Depth * RowStride) + thread / Across * 4, b = buffer * (Depth * Side) + thread % Across * 4;
            for (int k = 0; k < Depth; k++)
            {
                var left = Quad.Load(columns, b + k * Side);
                var right = Quad.Load(columns, b + k * Side + Half);
                var top = Quad.Load(rows, a + k * RowStride);
                var bottom = Quad.Load(rows, a + k * RowStride + Half);
                c0.Add(top.X, left);
                c1.Add(top.Y, left);
                c2.Add(top.Z, left);
                c3.Add(top.W, left);
                c4.Add(bottom.X, left);
                c5.Add(bottom.Y, left);
                c6.Add(bottom.Z, left);
                c7.Add(bottom.W, left);
                e0.Add(top.X, right);
                e1.Add(top.Y, right);
                e2.Add(top.Z, right);
                e3.Add(top.W, right);
                e4.Add(bottom.X, right);
                e5.Add(bottom.Y, right);
                e6.Add(bottom.Z, right);
                e7.Add(bottom.W, right);
            }
            buffer = 1 - buffer;
        }

        int row = firstRow + thread / Across * 4, column = firstColumn + thread % Across * 4;
        Store(row, column, c0, output, residual, bias, d);
        Store(row + 1, column, c1, output, residual, bias, d);
        Store(row + 2, column, c2, output, residual, bias, d);
        Store(row + 3, column, c3, output, residual, bias, d);
        Store(row + Half, column, c4, output, residual, bias, d);
        Store(row + Half + 1, column, c5, output, residual, bias, d);
        Store(row + Half + 2, column, c6, output, residual, bias, d);
        Store(row + Half + 3, column, c7, output, residual, bias, d);
        column += Half;
        Store(row, column, e0, output, residual, bias, d);
        Store(row + 1, column, e1, output, residual, bias, d);
        Store(row + 2, column, e2, output, residual, bias, d);
        Store(row + 3, column, e3, output, residual, bias, d);
        Store(row + Half, column, e4, output, residual, bias, d);
        Store(row + Half + 1, column, e5, output, residual, bias, d);
        Store(row + Half + 2, column, e6, output, residual, bias, d);
        Store(row + Half + 3, column, e7, output, residual, bias, d);
    }

    /// <summary>Bias, residual and ReLU on four neighbouring channels of a row.</summary>
    private static void Store(int row, int column, Quad sum, ArrayView<float> output, ArrayView<float> residual, ArrayView<float> bias, Dimensions d)
    {
        if (row >= d.Rows)
            return;
        long target = d.Target(row);
        StoreOne(target, column, sum.X, output, residual, bias, d);
        StoreOne(target, column + 1, sum.Y, output, residual, bias, d);
        StoreOne(target, column + 2, sum.Z, output, residual, bias, d);
        StoreOne(target, column + 3, sum.W, output, residual, bias, d);
    }

    private static void StoreOne(long target, int column, float sum, ArrayView<float> output, ArrayView<float> residual, ArrayView<float> bias, Dimensions d)
    {
        if (column >= d.Columns)
            return;
        sum += bias[column];
        if (d.HasResidual != 0)
            sum += residual[target + column];
        output[target + column] = d.Relu != 0 && sum < 0 ? 0 : sum; // not Max: a NaN must stay one
    }

    /// <summary>Four neighbouring values, in registers.</summary>
    private struct Quad
    {
        public float X, Y, Z, W;

        public static Quad Load(ArrayView<float> from, int at) => new() { X = from[at], Y = from[at + 1], Z = from[at + 2], W = from[at + 3] };

        public void Add(float factor, Quad values)
        {
            X += factor * values.X;
            Y += factor * values.Y;
            Z += factor * values.Z;
            W += factor * values.W;
        }
    }

    /// <summary>Eight values on their way to shared memory, in registers.</summary>
    private struct Octet
    {
        public float A, B, C, D, E, F, G, H;

        /// <summary>One channel of every eighth row.</summary>
        public static Octet Gather(ArrayView<float> input, ArrayView<long> pixels, int first, int channel, bool inside) => new()
        {
            A = Value(input, pixels[first], channel, inside), B = Value(input, pixels[first + Across], channel, inside),
            C = Value(input, pixels[first + 2 * Across], channel, inside), D = Value(input, pixels[first + 3 * Across], channel, inside),
            E = Value(input, pixels[first + 4 * Across], channel, inside), F = Value(input, pixels[first + 5 * Across], channel, inside),
            G = Value(input, pixels[first + 6 * Across], channel, inside), H = Value(input, pixels[first + 7 * Across], channel, inside),
        };

        public static Octet Read(ArrayView<float> from, long at, int stride) => new()
        {
            A = from[at], B = from[at + stride], C = from[at + 2L * stride], D = from[at + 3L * stride],
            E = from[at + 4L * stride], F = from[at + 5L * stride], G = from[at + 6L * stride], H = from[at + 7L * stride],
        };

        public readonly void Store(ArrayView<float> to, int at, int stride)
        {
            to[at] = A;
            to[at + stride] = B;
            to[at + 2 * stride] = C;
            to[at + 3 * stride] = D;
            to[at + 4 * stride] = E;
            to[at + 5 * stride] = F;
            to[at + 6 * stride] = G;
            to[at + 7 * stride] = H;
        }

        private static float Value(ArrayView<float> input, long pixel, int channel, bool inside)
        {
            float value = 0;
            if (pixel >= 0 && inside)
                value = input[pixel + channel];
            return value;
        }
    }

    /// <summary>Sizes of one <see cref="TapGrid"/> and group; rows run over all images.</summary>
    internal struct Dimensions
    {
        public int Rows, Taps, Depth, Columns, ColumnTiles;
        public int GridH, GridW, StrideH, StrideW, FirstH, FirstW, StepH, StepW;
        public int InputH, InputW, InputChannels, FirstInput;
        public int OutputH, OutputW, OutputChannels, FirstOutput;
        public int Relu, HasResidual;

        public static Dimensions Of(ConvolutionForm form, TapGrid grid, int group, Shape input, Shape output) => new()
        {
            Rows = checked(input.N * grid.Extent.H * grid.Extent.W), Taps = grid.Taps.Length, Depth = form.Order.Depth, Columns = form.Order.Columns,
            ColumnTiles = (form.Order.Columns + Side - 1) / Side,
            GridH = grid.Extent.H, GridW = grid.Extent.W, StrideH = grid.Stride.H, StrideW = grid.Stride.W,
            FirstH = grid.First.H, FirstW = grid.First.W, StepH = grid.Step.H, StepW = grid.Step.W,
            InputH = input.H, InputW = input.W, InputChannels = input.C, FirstInput = group * form.Order.Depth,
            OutputH = output.H, OutputW = output.W, OutputChannels = output.C, FirstOutput = group * form.Order.Columns, Relu = form.Relu ? 1 : 0,
        };

        /// <summary>Where a row stands in the grid; unsigned division is the cheaper one.</summary>
        private readonly (int Image, int Y, int X) Pixel(int row)
        {
            int line = (int)((uint)row / (uint)GridW), image = (int)((uint)line / (uint)GridH);
            return (image, line - image * GridH, row - line * GridW);
        }

        /// <summary>Where a row stands in the input; beyond the last row, outside every image.</summary>
        public readonly (int Image, int Y, int X) Place(int row)
        {
            const int Outside = int.MinValue / 2;
            var (image, y, x) = Pixel(row);
            return row < Rows ? (image, y * StrideH, x * StrideW) : (0, Outside, 0);
        }

        /// <summary>First channel of the input pixel that a tap reads, −1 in the padding.</summary>
        public readonly long Source((int Image, int Y, int X) place, int dy, int dx)
        {
            int y = place.Y + dy, x = place.X + dx;
            if (y < 0 || y >= InputH || x < 0 || x >= InputW)
                return -1;
            return (((long)place.Image * InputH + y) * InputW + x) * InputChannels + FirstInput;
        }

        /// <summary>First channel of the output pixel of a row.</summary>
        public readonly long Target(int row)
        {
            var (image, y, x) = Pixel(row);
            return (((long)image * OutputH + FirstH + y * StepH) * OutputW + FirstW + x * StepW) * OutputChannels + FirstOutput;
        }
    }
}
