using System.Runtime.CompilerServices;
using System.Runtime.Intrinsics;
using Pcrl.Kernels.Cpu;

namespace Pcrl.Kernels.Pooling;

/// <summary>Pooling on the CPU: an output row per part, some channels of a pixel at once, their maximum or sum in a register.</summary>
internal sealed unsafe class CpuPooling : CpuLayer
{
    private readonly (int First, int End)[] _rows; // input rows of each output row
    private readonly (int First, int End)[] _columns;
    private readonly bool _maximum; // else the mean
    private readonly Action<int, int> _work;

    public CpuPooling(CpuDevice device, MaxPool2d op, Shape input)
        : this(device, op, input, y => MaxPool2d.Window(y, op.Kernel.H, op.Stride.H, op.Padding.H, input.H),
            x => MaxPool2d.Window(x, op.Kernel.W, op.Stride.W, op.Padding.W, input.W), maximum: true)
    {
    }

    public CpuPooling(CpuDevice device, AdaptiveAvgPool2d op, Shape input)
        : this(device, op, input, y => AdaptiveAvgPool2d.Cell(y, op.Grid.H, input.H), x => AdaptiveAvgPool2d.Cell(x, op.Grid.W, input.W), maximum: false)
    {
    }

    private CpuPooling(CpuDevice device, Operator op, Shape input, Func<int, (int, int)> rows, Func<int, (int, int)> columns, bool maximum)
        : base(device, op, input)
    {
        _rows = [.. Enumerable.Range(0, Output.H).Select(rows)];
        _columns = [.. Enumerable.Range(0, Output.W).Select(columns)];
        _maximum = maximum;
        _work = device.VectorBits == 512 ? Row<Vector512<float>, Floats512> : Row<Vector256<float>, Floats256>;
    }

    public override void Dispose()
    {
    }

    private protected override void Execute(Call call) => Share(Output.N * Output.H, _work, call);

    /// <summary>One row of an output image.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Row<V, T>(int part, int worker)
        where V : struct
        where T : IFloatVector<V>
    {
        var (n, y) = Math.DivRem(part, Output.H);
        var (top, bottom) = _rows[y];
        int channels = Output.C;
        ref readonly var call = ref CallOf(worker);
        float* image = call.Input + n * Input.ImageCount, pixel = call.Output + (long)part * Output.W * channels;
        foreach (var (left, right) in _columns)
        {
            float start = _maximum ? float.NegativeInfinity : 0, scale = _maximum ? 1 : 1f / ((bottom - top) * (right - left));
            int channel = 0;
            for (; channel <= channels - T.Lanes; channel += T.Lanes)
            {
                V result = T.All(start);
                for (int i = top; i < bottom; i++)
                {
                    float* from = image + ((long)i * Input.W + left) * channels + channel;
                    for (int j = left; j < right; j++, from += channels)
                        result = _maximum ? T.Max(result, T.Load(from)) : T.Add(result, T.Load(from));
                }
                T.Store(T.Multiply(result, T.All(scale)), pixel + channel);
            }
            for (; channel < channels; channel++)
            {
                float result = start;
                for (int i = top; i < bottom; i++)
                    for (int j = left; j < right; j++)
                    {
                        float value = image[((long)i * Input.W + j) * channels + channel];
                        result = _maximum ? MathF.Max(result, value) : result + value;
                    }
                pixel[channel] = result * scale;
            }
            pixel += channels;
        }
    }
}
