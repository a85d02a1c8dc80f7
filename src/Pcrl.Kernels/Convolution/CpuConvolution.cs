using System.Runtime.CompilerServices;
using Pcrl.Kernels.Cpu;

namespace Pcrl.Kernels.Convolution;

/// <summary>
/// Convolution, transposed convolution and linear layer on the CPU: the output pixels of all images in blocks of rows, each block against
/// panels of packed weights, tile by tile. Rows of the left matrix are never built, only pointers to them.
/// </summary>
internal sealed unsafe class CpuConvolution : CpuLayer
{
    /// <summary>Tiles per block: as many rows as share one pass of a weight panel through the second-level cache.</summary>
    private const int TilesPerBlock = 16;

    /// <summary>Weights up to this size stay in the second-level cache.</summary>
    private const long ResidentBytes = 384 << 10;

    /// <summary>Inputs of a row up to which all taps go into one sum: more rows of them than a block has would not stay in the second-level cache.</summary>
    private const int MostDepth = 2048;

    /// <summary>Up to so many input channels kernel rows are read as one.</summary>
    private const int FewChannels = 8;

    private readonly int _groups;
    private readonly WeightOrder _order;
    private readonly bool _relu;
    private readonly Gather[] _gathers;
    private readonly PackedWeights[] _weights; // [gathers, groups]
    private readonly Part[] _parts;
    private readonly NativeBuffer _zeros; // what a tap in the padding reads, and what later steps have in place of the bias
    private readonly Action<int, int> _work;
    private readonly long _ahead; // see TileJob

    private readonly Shape _source; // of the pixels that the gathers count
    private readonly Action<int, int>? _pad; // where kernel rows are read as one: copies the input to where its padding is in memory

    private CpuConvolution(CpuDevice device, Operator op, Shape input, Gather[] gathers, int groups, WeightOrder order, bool relu,
        ReadOnlySpan<float> weight, ReadOnlySpan<float> bias, Shape? padded = null)
        : base(device, op, input)
    {
        _source = padded ?? input;
        _pad = padded is null ? null : Pad;
        _groups = groups;
        _order = order;
        _relu = relu;
        _gathers = gathers;
        _zeros = new NativeBuffer(Math.Max(order.Depth, Tile.Columns(device.VectorBits)) * sizeof(float));
        _work = Work;
        _ahead = op is Conv2d conv && padded is null ? (long)Tile.Rows(device.VectorBits) * conv.Stride.W * input.C : 0; // true within a row of pixels; rows of few channels overlap
        int tileColumns = Tile.Columns(device.VectorBits);
        _weights = new PackedWeights[gathers.Length * groups];
        int groupWeights = weight.Length / groups;
        for (int g = 0; g < _weights.Length; g++)
        {
            int group = g % groups;
            _weights[g] = new PackedWeights(tileColumns, gathers[g / groups].Taps, order, weight.Slice(group * groupWeights, groupWeights),
                bias.IsEmpty ? bias : bias.Slice(group * order.Columns, order.Columns));
        }
        _parts = Share(input.N, gathers, groups, _weights[0].Panels, Tile.Rows(device.VectorBits) * TilesPerBlock, device.Threads);
    }

    public static CpuConvolution Create(CpuDevice device, Conv2d op, Shape input, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias) =>
        op is { Groups: 1, In: <= FewChannels, Kernel.W: > 1, Dilation.W: 1 }
            ? CreateByRows(device, op, input, weight, bias)
            : new(device, op, input, Gather.Of(op, input), op.Groups, WeightOrder.Of(op), op.Relu, weight, bias);

    public static CpuConvolution Create(CpuDevice device, ConvTranspose2d op, Shape input, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias) =>
        new(device, op, input, Gather.Of(op, input), groups: 1, WeightOrder.Of(op), op.Relu, weight, bias);

    public static CpuConvolution Create(CpuDevice device, Linear op, Shape input, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias) =>
        new(device, op, input, Gather.Of(op.AsConvolution, input), groups: 1, WeightOrder.Of(op.AsConvolution), op.Relu, weight, bias);

    /// <summary>
    /// With few channels a tap is too short a run. In an input that has its padding in memory the pixels under a kernel row lie side by side:
    /// a kernel of H × 1 taps with W times the channels.
    /// </summary>
    private static CpuConvolution CreateByRows(CpuDevice device, Conv2d op, Shape input, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias)
    {
        var (kernelH, kernelW) = (op.Kernel.H, op.Kernel.W);
        var padded = new Shape(input.N, input.H + 2 * op.Padding.H, input.W + 2 * op.Padding.W, input.C);
        int depth = kernelW * op.In;
        var byRows = new float[weight.Length]; // [out, kernel W, in, kernel H]
        for (int at = 0, column = 0; column < op.Out; column++)
            for (int j = 0; j < kernelW; j++)
                for (int k = 0; k < op.In; k++)
                    for (int i = 0; i < kernelH; i++)
                        byRows[at++] = weight[((column * op.In + k) * kernelH + i) * kernelW + j];
        return new(device, op, input, [Gather.OfRows(op, padded)], groups: 1,
            new WeightOrder(depth, op.Out, DepthStride: kernelH, ColumnStride: depth * kernelH), op.Relu, byRows, bias, padded);
    }

    public override void Dispose()
    {
        foreach (var weights in _weights)
            weights.Dispose();
        _zeros.Dispose();
    }

    private protected override void Execute(Call call)
    {
        if (_pad is not null)
        {
            call.Prepared = (float*)Cpu.SharedScratch(_source.Count * sizeof(float));
            Share(_source.N * _source.H, _pad, call);
            call.Input = call.Prepared;
        }
        Share(_parts.Length, _work, call);
    }

    /// <summary>One row of an image with the padding around it.</summary>
    private void Pad(int part, int worker)
    {
        ref readonly var call = ref CallOf(worker);
        var (image, y) = Math.DivRem(part, _source.H);
        int top = (_source.H - Input.H) / 2, left = (_source.W - Input.W) / 2 * Input.C, row = Input.W * Input.C;
        var to = new Span<float>(call.Prepared + (long)part * _source.W * Input.C, _source.W * Input.C);
        y -= top;
        if ((uint)y >= (uint)Input.H)
        {
            to.Clear();
            return;
        }
        to[..left].Clear();
        new ReadOnlySpan<float>(call.Input + ((long)image * Input.H + y) * row, row).CopyTo(to[left..]);
        to[(left + row)..].Clear();
    }

    /// <summary>Cuts the work into parts: blocks of rows, and also runs of panels where there are too few blocks to keep every thread busy.</summary>
    private static Part[] Share(int images, Gather[] gathers, int groups, int panels, int blockRows, int threads)
    {
        const int PartsPerThread = 8;
        long blocks = gathers.Sum(g => ((long)images * g.Rows + blockRows - 1) / blockRows) * groups;
        int runs = (int)Math.Clamp((PartsPerThread * threads + blocks - 1) / blocks, 1, panels);
        if (threads == 1)
            runs = 1;
        var parts = new List<Part>();
        for (int gather = 0; gather < gathers.Length; gather++)
            for (long row = 0, rows = (long)images * gathers[gather].Rows; row < rows; row += blockRows)
                for (int group = 0; group < groups; group++)
                    for (int run = 0; run < runs; run++)
                    {
                        int first = (int)((long)panels * run / runs), end = (int)((long)panels * (run + 1) / runs);
                        parts.Add(new(gather, group, row, (int)Math.Min(blockRows, rows - row), first, end));
                    }
        return [.. parts];
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Work(int index, int worker)
    {
        ref readonly var part = ref _parts[index];
        var call = CallOf(worker);
        var gather = _gathers[part.Gather];
        var weights = _weights[part.Gather * _groups + part.Group];
        int tileRows = Tile.Rows(Cpu.VectorBits), tileColumns = Tile.Columns(Cpu.VectorBits);
        int padded = (part.Rows + tileRows - 1) / tileRows * tileRows, taps = gather.Taps.Length;
        byte* scratch = (byte*)Cpu.Scratch(worker, (long)padded * sizeof(long) + (long)taps * padded * sizeof(float*));
        long* target = (long*)scratch;
        float** source = (float**)(target + padded);
        Resolve(gather, part, call.Input, padded, source, target);
        var job = new TileJob { SourceStride = padded, Depth = _order.Depth };
        // Either all panels stay in the second-level cache while the rows go by and are written whole, or all rows of the part do.
        bool rowsOutside = weights.Panels * weights.PanelSize * sizeof(float) <= ResidentBytes;
        int outerStep = rowsOutside ? tileRows : part.Rows, tapStep = Math.Clamp(MostDepth / _order.Depth, 1, Math.Max(taps, 1));
        for (int tap = 0; tap == 0 || tap < taps; tap += tapStep)
        {
            job.Taps = Math.Min(tapStep, taps - tap);
            job.Relu = _relu && tap + tapStep >= taps;
            for (int outer = 0; outer < part.Rows; outer += outerStep)
                for (int panel = part.FirstPanel; panel < part.EndPanel; panel++)
                {
                    int firstColumn = panel * tileColumns, columns = Math.Min(tileColumns, _order.Columns - firstColumn);
                    long column = (long)part.Group * _order.Columns + firstColumn;
                    job.Weight = weights.Panel(panel) + (long)tap * _order.Depth * tileColumns;
                    job.Bias = tap == 0 ? weights.Bias(panel) : _zeros.Floats;
                    job.Output = call.Output + column;
                    job.Residual = tap > 0 ? job.Output : call.Residual == null ? null : call.Residual + column;
                    job.Ahead = panel == part.FirstPanel ? _ahead : 0;
                    for (int row = outer, end = Math.Min(part.Rows, outer + outerStep); row < end; row += tileRows)
                    {
                        job.Source = source + tap * padded + row;
                        job.Target = target + row;
                        Tile.Run(Cpu.VectorBits, job, Math.Min(tileRows, part.Rows - row), columns);
                    }
                }
        }
    }

    /// <summary>Turns the gather's pixel numbers into addresses for the rows of one part; rows beyond its end repeat the last one.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Resolve(Gather gather, in Part part, float* input, int padded, float** source, long* target)
    {
        int taps = gather.Taps.Length, rows = gather.Rows;
        long pixel = _source.C;
        float* channels = input + (long)part.Group * _order.Depth, zeros = _zeros.Floats;
        for (int r = 0; r < part.Rows;)
        {
            // The rows that lie in one image.
            var (image, row) = Math.DivRem(part.FirstRow + r, rows);
            int count = (int)Math.Min(part.Rows - r, rows - row);
            float* pixels = channels + image * _source.ImageCount;
            for (int tap = 0; tap < taps; tap++)
            {
                float** to = source + tap * padded + r;
                var from = gather.Source.AsSpan(tap * rows + (int)row, count);
                for (int i = 0; i < from.Length; i++)
                    to[i] = from[i] < 0 ? zeros : pixels + (long)from[i] * pixel;
            }
            var targets = gather.Target.AsSpan((int)row, count);
            for (int i = 0; i < targets.Length; i++)
                target[r + i] = image * Output.ImageCount + (long)targets[i] * Output.C;
            r += count;
        }
        for (int r = part.Rows; r < padded; r++)
        {
            target[r] = target[part.Rows - 1];
            for (int tap = 0; tap < taps; tap++)
                source[tap * padded + r] = source[tap * padded + part.Rows - 1];
        }
    }

    /// <summary>Rows × panels of one gather and group: what one thread does in one go.</summary>
    private readonly record struct Part(int Gather, int Group, long FirstRow, int Rows, int FirstPanel, int EndPanel);
}
