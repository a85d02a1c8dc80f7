using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using Pcrl.Kernels.Cpu;

namespace Pcrl.Kernels.Pooling;

/// <summary>Pooling on the CPU: an output row per part, all channels of a pixel at once.</summary>
internal abstract unsafe class CpuPooling : Layer
{
    private readonly CpuDevice _device;
    private readonly Action<int, int> _work;
    private float* _input;
    private float* _output;

    protected CpuPooling(CpuDevice device, Operator op, Shape input)
        : base(device, op, input)
    {
        _device = device;
        _work = Work;
    }

    public override void Dispose()
    {
    }

    private protected override void Execute(Tensor input, Tensor output, Tensor? residual)
    {
        _input = ((CpuTensor)input).Data;
        _output = ((CpuTensor)output).Data;
        _device.Team.Run(Output.N * Output.H, _work);
    }

    /// <summary>Pools pixels [top, bottom) × [left, right) of an image into one output pixel.</summary>
    protected abstract void Pool(float* image, int top, int bottom, int left, int right, Span<float> pixel);

    /// <summary>Input rows of an output row.</summary>
    protected abstract (int First, int End) Rows(int y);

    /// <summary>Input columns of an output column.</summary>
    protected abstract (int First, int End) Columns(int x);

    protected float* Pixel(float* image, int y, int x) => image + ((long)y * Input.W + x) * Input.C;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Work(int part, int worker)
    {
        int n = part / Output.H, y = part % Output.H;
        var (top, bottom) = Rows(y);
        float* image = _input + n * Input.ImageCount;
        for (int x = 0; x < Output.W; x++)
        {
            var (left, right) = Columns(x);
            Pool(image, top, bottom, left, right, new Span<float>(_output + ((long)part * Output.W + x) * Output.C, Output.C));
        }
    }
}

/// <inheritdoc cref="MaxPool2d"/>
internal sealed unsafe class CpuMaxPool2d(CpuDevice device, MaxPool2d op, Shape input) : CpuPooling(device, op, input)
{
    protected override (int First, int End) Rows(int y) => MaxPool2d.Window(y, op.Kernel.H, op.Stride.H, op.Padding.H, Input.H);

    protected override (int First, int End) Columns(int x) => MaxPool2d.Window(x, op.Kernel.W, op.Stride.W, op.Padding.W, Input.W);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    protected override void Pool(float* image, int top, int bottom, int left, int right, Span<float> pixel)
    {
        // Channels outside: a pixel is a short run, and the best so far stays in a register.
        int channel = 0;
        for (; channel <= pixel.Length - Vector<float>.Count; channel += Vector<float>.Count)
        {
            var best = new Vector<float>(float.NegativeInfinity);
            for (int y = top; y < bottom; y++)
                for (int x = left; x < right; x++)
                    best = Vector.Max(best, Vector.Load(Pixel(image, y, x) + channel));
            best.CopyTo(pixel[channel..]);
        }
        for (; channel < pixel.Length; channel++)
        {
            float best = float.NegativeInfinity;
            for (int y = top; y < bottom; y++)
                for (int x = left; x < right; x++)
                    best = MathF.Max(best, Pixel(image, y, x)[channel]);
            pixel[channel] = best;
        }
    }
}

/// <inheritdoc cref="AdaptiveAvgPool2d"/>
internal sealed unsafe class CpuAdaptiveAvgPool2d(CpuDevice device, AdaptiveAvgPool2d op, Shape input) : CpuPooling(device, op, input)
{
    protected override (int First, int End) Rows(int y) => AdaptiveAvgPool2d.Cell(y, op.Grid.H, Input.H);

    protected override (int First, int End) Columns(int x) => AdaptiveAvgPool2d.Cell(x, op.Grid.W, Input.W);

    protected override void Pool(float* image, int top, int bottom, int left, int right, Span<float> pixel)
    {
        pixel.Clear();
        for (int y = top; y < bottom; y++)
            for (int x = left; x < right; x++)
                TensorPrimitives.Add(pixel, new ReadOnlySpan<float>(Pixel(image, y, x), Input.C), pixel);
        TensorPrimitives.Divide(pixel, (bottom - top) * (right - left), pixel);
    }
}
