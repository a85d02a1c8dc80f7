using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Pcrl.Kernels.Cpu;

namespace Pcrl.Kernels.Convolution;

/// <summary>
/// A 3×3 convolution with stride 1 on the CPU by Winograd's F(4×4, 3×3): 36 matrix products, one per frequency, in place of 144
/// multiplications per 4×4 outputs. Weights are transformed afresh for every block of tiles, in pieces that stay in the second-level cache:
/// that costs two or three percent and saves keeping four times their size. A NaN or infinity in the input makes all outputs of the
/// tiles that read it NaN, those just beyond its reach too.
/// </summary>
internal sealed unsafe class CpuWinograd : CpuLayer
{
    /// <summary>Most tiles, in rows of the tile kernel, that share one transform of the weights.</summary>
    private const int GroupsPerBlock = 16;

    /// <summary>The same where a thread transforms the inputs of its block by itself: fewer, so that they stay in its cache.</summary>
    private const int GroupsPerOwnBlock = 8;

    /// <summary>Blocks per thread from which on every thread takes whole blocks.</summary>
    private const int BlocksPerThread = 3;

    /// <summary>Input channels per step: weights of all frequencies for one panel fill half the second-level cache.</summary>
    private const int DepthStep = 128;

    /// <summary>Tiles transformed by one thread in one go.</summary>
    private const int TilesPerPart = 8;

    /// <summary>Keeps arrays of a power of two from falling onto the same cache lines.</summary>
    private const int Skew = 16;

    private const int Taps = 9;
    private const int Frequencies = WinogradPoints.Frequencies;

    private readonly Conv2d _op;
    private readonly PackedWeights _weights;
    private readonly NativeBuffer _zeros; // what a pixel in the padding reads, and a panel without bias
    private readonly int _tilesX;
    private readonly int _tilesPerImage;
    private readonly int _tiles;
    private readonly int _block; // tiles that share one transform of the weights
    private readonly bool _ownBlocks; // each thread transforms the inputs of its blocks; else all threads those of all tiles first
    private readonly int _rowStride; // floats from one tile to the next
    private readonly long _frequencyStride;
    private readonly Action<int, int> _transform;
    private readonly Action<int, int> _multiply;
    private readonly Action<int, int> _both;

    public CpuWinograd(CpuDevice device, Conv2d op, Shape input, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias)
        : base(device, op, input)
    {
        _op = op;
        _weights = new PackedWeights(Tile.Columns(device.VectorBits), [.. Enumerable.Range(0, Taps)], WeightOrder.Of(op), weight, bias, tapsTogether: true);
        _zeros = new NativeBuffer(Math.Max(op.In, _weights.PanelWidth) * sizeof(float));
        _tilesX = (Output.W + WinogradPoints.Outputs - 1) / WinogradPoints.Outputs;
        _tilesPerImage = _tilesX * ((Output.H + WinogradPoints.Outputs - 1) / WinogradPoints.Outputs);
        _tiles = _tilesPerImage * input.N;
        int tileRows = Tile.Rows(device.VectorBits), ownBlock = tileRows * GroupsPerOwnBlock, blocks = Blocks(tileRows * GroupsPerBlock);
        _ownBlocks = Blocks(ownBlock) >= BlocksPerThread * device.Threads;
        _block = _ownBlocks ? ownBlock : RoundUp((_tiles + blocks - 1) / blocks, tileRows);
        _rowStride = op.In + Skew;
        _frequencyStride = (long)(_ownBlocks ? _block : RoundUp(_tiles, tileRows)) * _rowStride + Skew;
        _transform = (part, worker) => Transform(CallOf(worker), part * TilesPerPart, Math.Min(_tiles, (part + 1) * TilesPerPart), 0);
        _multiply = (part, worker) => Multiply(CallOf(worker), part / _weights.Panels, part % _weights.Panels, 0, (float*)Cpu.Scratch(worker, MultiplyBytes));
        _both = TransformAndMultiply;
    }

    /// <summary>Whether it can do this convolution and is faster than the direct way.</summary>
    public static bool Fits(CpuDevice device, Conv2d op, Shape output) =>
        op is { Kernel: (3, 3), Stride: (1, 1), Dilation: (1, 1), Groups: 1, Padding: { H: <= 2, W: <= 2 }, In: >= 32 }
        && op.In % Vector512<float>.Count == 0 && op.Out % Tile.Columns(device.VectorBits) == 0 && output.H > 2 && output.W > 2;

    public override void Dispose()
    {
        _weights.Dispose();
        _zeros.Dispose();
    }

    private protected override void Execute(Call call)
    {
        if (_ownBlocks)
        {
            Share(Blocks(_block), _both, call);
            return;
        }
        call.Prepared = (float*)Cpu.SharedScratch(TransformedBytes);
        Share((_tiles + TilesPerPart - 1) / TilesPerPart, _transform, call);
        Share(Blocks(_block) * _weights.Panels, _multiply, call);
    }

    private long TransformedBytes => Frequencies * _frequencyStride * sizeof(float);

    private long WeightStride => (long)DepthStep * _weights.PanelWidth + Skew;

    private long SumStride => (long)_block * _weights.PanelWidth + Skew;

    private long MultiplyBytes => Frequencies * (WeightStride + SumStride) * sizeof(float);

    private int Blocks(int tiles) => (_tiles + tiles - 1) / tiles;

    private static int RoundUp(int value, int multiple) => (value + multiple - 1) / multiple * multiple;

    private void TransformAndMultiply(int block, int worker)
    {
        float* scratch = (float*)Cpu.Scratch(worker, MultiplyBytes + TransformedBytes);
        var call = CallOf(worker);
        call.Prepared = scratch + MultiplyBytes / sizeof(float);
        int start = block * _block;
        Transform(call, start, Math.Min(_tiles, start + _block), start);
        for (int panel = 0; panel < _weights.Panels; panel++)
            Multiply(call, block, panel, start, scratch);
    }

    /// <summary>Transforms the inputs of some tiles.</summary>
    /// <param name="call">What is read, and where it is put: [frequency, tile, channel].</param>
    /// <param name="start">First tile.</param>
    /// <param name="end">The tile after the last.</param>
    /// <param name="origin">The tile that this begins with.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    private void Transform(in Call call, int start, int end, int origin)
    {
        float** pixels = stackalloc float*[Frequencies];
        for (int tile = start; tile < end; tile++)
        {
            var (image, top, left) = Position(tile);
            float* channels = call.Input + image * Input.ImageCount;
            for (int i = 0; i < Frequencies; i++)
            {
                int y = top - _op.Padding.H + i / WinogradPoints.Side, x = left - _op.Padding.W + i % WinogradPoints.Side;
                bool inside = (uint)y < (uint)Input.H && (uint)x < (uint)Input.W;
                pixels[i] = inside ? channels + ((long)y * Input.W + x) * Input.C : _zeros.Floats;
            }
            float* to = call.Prepared + (long)(tile - origin) * _rowStride;
            if (Cpu.VectorBits == 512)
                WinogradTransform<Vector512<float>, Floats512>.Input(pixels, _op.In, to, _frequencyStride);
            else
                WinogradTransform<Vector256<float>, Floats256>.Input(pixels, _op.In, to, _frequencyStride);
        }
    }

    /// <summary>One block of tiles against one panel of weights.</summary>
    /// <param name="call">Where transformed inputs are, and where results go.</param>
    /// <param name="block">The block.</param>
    /// <param name="panel">The panel.</param>
    /// <param name="origin">The tile that the transformed inputs begin with.</param>
    /// <param name="scratch">Room for transformed weights and sums.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    private void Multiply(in Call call, int block, int panel, int origin, float* scratch)
    {
        int start = block * _block, end = Math.Min(_tiles, start + _block);
        int tileRows = Tile.Rows(Cpu.VectorBits), width = _weights.PanelWidth, depth = _op.In;
        long weightStride = WeightStride, sumStride = SumStride;
        float* weights = scratch, sums = weights + Frequencies * weightStride; // [frequency, depth step, panel width], [frequency, tile, panel width]
        float** source = stackalloc float*[tileRows];
        long* target = stackalloc long[tileRows];
        for (int row = 0; row < tileRows; row++)
            target[row] = row * width;
        var job = new TileJob { Source = source, Taps = 1, Ahead = (long)tileRows * _rowStride, Bias = _zeros.Floats, Target = target };
        for (int k = 0; k < depth; k += DepthStep)
        {
            job.Depth = Math.Min(DepthStep, depth - k);
            TransformWeights(_weights.Panel(panel) + (long)k * Taps * width, job.Depth, width, weights, weightStride);
            for (int frequency = 0; frequency < Frequencies; frequency++)
            {
                job.Weight = weights + frequency * weightStride;
                float* rows = call.Prepared + frequency * _frequencyStride + k;
                for (int tile = start; tile < end; tile += tileRows)
                {
                    for (int row = 0; row < tileRows; row++)
                        source[row] = rows + (long)(tile - origin + row) * _rowStride; // beyond the last tile: memory of no meaning, sums that nobody reads
                    job.Output = sums + frequency * sumStride + (long)(tile - start) * width;
                    job.Residual = k == 0 ? null : job.Output;
                    Tile.Full(Cpu.VectorBits, job);
                }
            }
        }
        Finish(call, panel, start, end, sums, sumStride);
    }

    private void TransformWeights(float* taps, int depth, int width, float* to, long stride)
    {
        if (Cpu.VectorBits == 512)
            WinogradTransform<Vector512<float>, Floats512>.Weights(taps, depth, width, to, stride);
        else
            WinogradTransform<Vector256<float>, Floats256>.Weights(taps, depth, width, to, stride);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    [SkipLocalsInit]
    private void Finish(in Call call, int panel, int start, int end, float* sums, long sumStride)
    {
        int width = _weights.PanelWidth, column = panel * width;
        float* output = call.Output + column, residual = call.Residual == null ? null : call.Residual + column;
        long* target = stackalloc long[WinogradPoints.Outputs * WinogradPoints.Outputs];
        for (int tile = start; tile < end; tile++)
        {
            var (image, top, left) = Position(tile);
            for (int i = 0; i < WinogradPoints.Outputs * WinogradPoints.Outputs; i++)
            {
                int y = top + i / WinogradPoints.Outputs, x = left + i % WinogradPoints.Outputs;
                target[i] = y < Output.H && x < Output.W ? image * Output.ImageCount + ((long)y * Output.W + x) * Output.C : -1;
            }
            float* from = sums + (long)(tile - start) * width;
            bool finite = Cpu.VectorBits == 512
                ? WinogradTransform<Vector512<float>, Floats512>.Output(from, sumStride, width, _weights.Bias(panel), target, output, residual, _op.Relu)
                : WinogradTransform<Vector256<float>, Floats256>.Output(from, sumStride, width, _weights.Bias(panel), target, output, residual, _op.Relu);
            if (!finite)
                Redo(call.Input, panel, tile, target, output, residual);
        }
    }

    /// <summary>One tile of one panel without the transforms.</summary>
    private void Redo(float* input, int panel, int tile, long* target, float* output, float* residual)
    {
        float** pixels = stackalloc float*[Taps];
        var (image, top, left) = Position(tile);
        for (int i = 0; i < WinogradPoints.Outputs * WinogradPoints.Outputs; i++)
        {
            if (target[i] < 0)
                continue;
            for (int tap = 0; tap < Taps; tap++)
            {
                int y = top + i / WinogradPoints.Outputs - _op.Padding.H + tap / 3, x = left + i % WinogradPoints.Outputs - _op.Padding.W + tap % 3;
                bool inside = (uint)y < (uint)Input.H && (uint)x < (uint)Input.W;
                pixels[tap] = inside ? input + image * Input.ImageCount + ((long)y * Input.W + x) * Input.C : null;
            }
            if (Cpu.VectorBits == 512)
                WinogradTransform<Vector512<float>, Floats512>.Direct(pixels, _op.In, _weights.Panel(panel), _weights.PanelWidth, _weights.Bias(panel), target[i], output, residual, _op.Relu);
            else
                WinogradTransform<Vector256<float>, Floats256>.Direct(pixels, _op.In, _weights.Panel(panel), _weights.PanelWidth, _weights.Bias(panel), target[i], output, residual, _op.Relu);
        }
    }

    /// <summary>Image and first output pixel of a tile.</summary>
    private (int Image, int Top, int Left) Position(int tile)
    {
        var (image, inImage) = Math.DivRem(tile, _tilesPerImage);
        var (y, x) = Math.DivRem(inImage, _tilesX);
        return (image, y * WinogradPoints.Outputs, x * WinogradPoints.Outputs);
    }
}
