namespace Pcrl.Kernels.Convolution;

/// <summary>What convolution, transposed convolution and linear layer have in common on a GPU: tap grids, groups and an order of weights.</summary>
/// <param name="Grids">One, or one for each phase of a transposed convolution.</param>
/// <param name="Groups">Groups of channels.</param>
/// <param name="Order">Where the weights of one group lie.</param>
/// <param name="Relu">Whether negative results become zero.</param>
internal sealed record ConvolutionForm(TapGrid[] Grids, int Groups, WeightOrder Order, bool Relu)
{
    /// <summary>Every grid with every group: each is one matrix product.</summary>
    public IEnumerable<(TapGrid Grid, int Group)> Parts => from grid in Grids from g in Enumerable.Range(0, Groups) select (grid, g);

    /// <summary>The form of an operator, or null if it is none of the three.</summary>
    public static ConvolutionForm? Of(Operator op, Shape input) => op switch
    {
        Conv2d conv => new(TapGrid.Of(conv, input), conv.Groups, WeightOrder.Of(conv), conv.Relu),
        ConvTranspose2d conv => new(TapGrid.Of(conv, input), 1, WeightOrder.Of(conv), conv.Relu),
        Linear linear => Of(linear.AsConvolution, input),
        _ => null,
    };

    public ReadOnlySpan<float> WeightOf(int group, ReadOnlySpan<float> weight) => weight.Slice(group * (weight.Length / Groups), weight.Length / Groups);

    public ReadOnlySpan<float> BiasOf(int group, ReadOnlySpan<float> bias) => bias.IsEmpty ? bias : bias.Slice(group * Order.Columns, Order.Columns);
}
