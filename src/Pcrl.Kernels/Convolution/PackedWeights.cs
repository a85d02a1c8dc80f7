using System.Runtime.CompilerServices;
using Pcrl.Kernels.Cpu;

namespace Pcrl.Kernels.Convolution;

/// <summary>How an operator's weights lie in memory, within one group.</summary>
/// <param name="Depth">Input channels.</param>
/// <param name="Columns">Output channels.</param>
/// <param name="DepthStride">Floats from one input channel to the next.</param>
/// <param name="ColumnStride">Floats from one output channel to the next.</param>
internal readonly record struct WeightOrder(int Depth, int Columns, int DepthStride, int ColumnStride)
{
    /// <summary>Index of a weight; the taps of a kernel lie side by side.</summary>
    public int Index(int tap, int k, int column) => tap + k * DepthStride + column * ColumnStride;

    public static WeightOrder Of(Conv2d op)
    {
        int taps = op.Kernel.H * op.Kernel.W, depth = op.In / op.Groups;
        return new(depth, op.Out / op.Groups, taps, depth * taps);
    }

    public static WeightOrder Of(ConvTranspose2d op)
    {
        int taps = op.Kernel.H * op.Kernel.W;
        return new(op.In, op.Out, op.Out * taps, taps);
    }
}

/// <summary>
/// Weights of one gather in the order the tile kernels read them: panels of <see cref="PanelWidth"/> output channels,
/// each [taps, input channels, panel width] or [input channels, taps, panel width], the last one filled up with zeros. The bias is filled up alike.
/// </summary>
internal sealed unsafe class PackedWeights : IDisposable
{
    private readonly NativeBuffer _weight;
    private readonly NativeBuffer _bias;

    /// <param name="panelWidth">Columns of a tile.</param>
    /// <param name="taps">Taps of the gather.</param>
    /// <param name="order">Where the operator keeps its weights.</param>
    /// <param name="weight">Weights of one group.</param>
    /// <param name="bias">[output channels] or empty.</param>
    /// <param name="tapsTogether">The second of the two orders.</param>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public PackedWeights(int panelWidth, ReadOnlySpan<int> taps, WeightOrder order, ReadOnlySpan<float> weight, ReadOnlySpan<float> bias,
        bool tapsTogether = false)
    {
        int columns = order.Columns, depth = order.Depth;
        PanelWidth = panelWidth;
        Panels = (columns + panelWidth - 1) / panelWidth;
        PanelSize = (long)taps.Length * depth * panelWidth;
        _weight = new NativeBuffer(Panels * PanelSize * sizeof(float));
        _bias = new NativeBuffer((long)Panels * panelWidth * sizeof(float));
        bias.CopyTo(new Span<float>(_bias.Floats, bias.Length));
        for (int column = 0; column < columns; column++)
        {
            float* panel = _weight.Floats + column / panelWidth * PanelSize + column % panelWidth;
            long tapStep = (long)panelWidth * (tapsTogether ? 1 : depth), depthStep = (long)panelWidth * (tapsTogether ? taps.Length : 1);
            for (int tap = 0; tap < taps.Length; tap++)
                for (int k = 0; k < depth; k++)
                    panel[tap * tapStep + k * depthStep] = weight[order.Index(taps[tap], k, column)];
        }
    }

    public int PanelWidth { get; }

    public int Panels { get; }

    /// <summary>Floats of one panel.</summary>
    public long PanelSize { get; }

    public float* Panel(int panel) => _weight.Floats + panel * PanelSize;

    public float* Bias(int panel) => _bias.Floats + panel * PanelWidth;

    public void Dispose()
    {
        _weight.Dispose();
        _bias.Dispose();
    }
}
