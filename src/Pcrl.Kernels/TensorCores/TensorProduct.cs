using Pcrl.Kernels.Convolution;

namespace Pcrl.Kernels.TensorCores;

/// <summary>One launch of <see cref="TensorKernel"/>, worked out on the host: tile, weights and table in the order the kernel reads them, arguments.</summary>
internal sealed class TensorProduct
{
    private TensorProduct(TensorTile tile)
    {
        Tile = tile;
    }

    public TensorTile Tile { get; }

    public required bool WholeChunks { get; init; }

    public required bool WholeStores { get; init; }

    /// <summary>Blocks of threads.</summary>
    public required int Blocks { get; init; }

    /// <summary>Bytes from the first channel of an image's first pixel to this group's, in the input and in the output.</summary>
    public required (int Input, int Output) FirstBytes { get; init; }

    /// <summary>Everything but the addresses.</summary>
    public required TensorArguments Arguments { get; init; }

    /// <summary>[steps and one more, eight chunks (or 64 values), 4].</summary>
    public required int[] Table { get; init; }

    /// <summary>[column tiles, steps, columns, 64] bfloat16, in the places that <see cref="TensorTile.Swizzle"/> says.</summary>
    public required ushort[] Weight { get; init; }

    /// <summary>[column tiles, columns].</summary>
    public required float[] Bias { get; init; }

    /// <summary>Whether the input channels of every group come in chunks.</summary>
    public static bool HasWholeChunks(ConvolutionForm form, Shape input) => form.Order.Depth % TensorTile.Chunk == 0 && input.C % TensorTile.Chunk == 0;

    /// <summary>Steps of <see cref="TensorTile.Depth"/> products.</summary>
    public static int Steps(ConvolutionForm form, TapGrid grid) => Tiles(checked(grid.Taps.Length * form.Order.Depth), TensorTile.Depth);

    /// <summary>Plans one grid and group of a convolution.</summary>
    /// <exception cref="OverflowException">The images are too large for 32-bit offsets.</exception>
    public static TensorProduct Plan(TensorTile tile, ConvolutionForm form, TapGrid grid, int group, Shape input, Shape output,
        ReadOnlySpan<float> weight, ReadOnlySpan<float> bias)
    {
        var order = form.Order;
        int depth = order.Depth, steps = Steps(form, grid);
        int rows = checked(input.N * grid.Extent.H * grid.Extent.W), columnTiles = Tiles(order.Columns, tile.Columns);
        var (pixels, width) = (TensorArguments.Division(grid.Extent.H * grid.Extent.W), TensorArguments.Division(grid.Extent.W));
        bool wholeChunks = HasWholeChunks(form, input);
        var biases = new float[columnTiles * tile.Columns];
        form.BiasOf(group, bias).CopyTo(biases);
        return new TensorProduct(tile)
        {
            WholeChunks = wholeChunks,
            WholeStores = order.Columns % TensorTile.Chunk == 0 && output.C % TensorTile.Chunk == 0,
            Blocks = checked(Tiles(rows, tile.Rows) * columnTiles),
            FirstBytes = (group * depth * 2, group * order.Columns * 2),
            Table = Entries(grid.Taps, depth, input, steps, wholeChunks ? TensorTile.Chunk : 1),
            Weight = Pack(tile, grid.Taps, order, steps, columnTiles, form.WeightOf(group, weight)),
            Bias = biases,
            Arguments = new TensorArguments
            {
                Rows = (uint)rows, Steps = (uint)steps, Columns = (uint)order.Columns, ColumnTiles = (uint)columnTiles,
                GridPixels = (uint)(grid.Extent.H * grid.Extent.W), GridW = (uint)grid.Extent.W,
                StrideH = (uint)grid.Stride.H, StrideW = (uint)grid.Stride.W,
                InputH = (uint)input.H, InputW = (uint)input.W, InputPixelBytes = (uint)input.C * 2,
                FirstH = (uint)grid.First.H, FirstW = (uint)grid.First.W, StepH = (uint)grid.Step.H, StepW = (uint)grid.Step.W,
                OutputH = (uint)output.H, OutputW = (uint)output.W, OutputPixelBytes = (uint)output.C * 2,
                PixelsReciprocal = pixels.Reciprocal, PixelsShift = pixels.Shift, WidthReciprocal = width.Reciprocal, WidthShift = width.Shift,
                Floor = form.Relu ? 0 : float.NegativeInfinity,
            },
        };
    }

    private static int Tiles(int of, int by) => (int)(((long)of + by - 1) / by);

    /// <summary>What the kernel adds to a pixel's place for each value of K = [taps, channels], or for each eight of them.</summary>
    private static int[] Entries(TapGrid.Tap[] taps, int depth, Shape input, int steps, int values)
    {
        var table = new int[(steps + 1) * (TensorTile.Depth / values) * 4];
        for (int entry = 0; entry < table.Length / 4; entry++)
        {
            int k = entry * values, tap = k / depth;
            (table[4 * entry], table[4 * entry + 1], table[4 * entry + 2]) = tap < taps.Length
                ? (taps[tap].Dy, taps[tap].Dx, checked((int)((((long)taps[tap].Dy * input.W + taps[tap].Dx) * input.C + k % depth) * 2)))
                : (TensorArguments.Outside, 0, 0);
        }
        return table;
    }

    private static ushort[] Pack(TensorTile tile, TapGrid.Tap[] taps, WeightOrder order, int steps, int columnTiles, ReadOnlySpan<float> weight)
    {
        int line = TensorTile.Depth, products = taps.Length * order.Depth;
        var packed = new ushort[checked((long)columnTiles * steps * tile.Columns * line)];
        for (int columnTile = 0; columnTile < columnTiles; columnTile++)
            for (int place = 0; place < tile.Columns; place++)
            {
                int column = columnTile * tile.Columns + TensorTile.Column(place);
                if (column >= order.Columns)
                    continue;
                for (int k = 0; k < products; k++)
                {
                    int step = k / line, at = TensorTile.Swizzle(place, k % line / TensorTile.Chunk) / 2 + k % TensorTile.Chunk;
                    packed[((long)columnTile * steps + step) * tile.Columns * line + at] =
                        Bfloat16.Round(weight[order.Index(taps[k / order.Depth].Index, k % order.Depth, column)]);
                }
            }
        return packed;
    }
}
