using System.Runtime.CompilerServices;
using Pcrl.Kernels.Cpu;

namespace Pcrl.Kernels.Convolution;

/// <summary>A 1×1 convolution of a single channel on the CPU: every output channel is that value times a weight. Tiles would compute mostly nothing.</summary>
internal sealed unsafe class CpuSpread : CpuLayer
{
    private readonly float[] _weight;
    private readonly float[] _bias;
    private readonly bool _relu;
    private readonly Action<int, int> _work;

    public CpuSpread(CpuDevice device, Conv2d op, Shape input, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias)
        : base(device, op, input)
    {
        _weight = weight.ToArray();
        _bias = bias.IsEmpty ? new float[op.Out] : bias.ToArray();
        _relu = op.Relu;
        _work = Row;
    }

    /// <summary>Whether it can do this convolution.</summary>
    public static bool Fits(Conv2d op) => op is { In: 1, Kernel: (1, 1), Stride: (1, 1), Padding: (0, 0) };

    public override void Dispose()
    {
    }

    private protected override void Execute(Call call) => Share(Output.N * Output.H, _work, call);

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Row(int part, int worker)
    {
        int channels = Output.C;
        var call = CallOf(worker);
        float* from = call.Input + (long)part * Input.W;
        long at = (long)part * Output.W * channels;
        for (int x = 0; x < Output.W; x++)
            for (int c = 0; c < channels; c++, at++)
            {
                float value = from[x] * _weight[c] + _bias[c];
                if (call.Residual != null)
                    value += call.Residual[at];
                call.Output[at] = _relu && value < 0 ? 0 : value; // not Max: a NaN must stay one
            }
    }
}
