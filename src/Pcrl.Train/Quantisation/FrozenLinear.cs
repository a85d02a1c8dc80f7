using static TorchSharp.torch;

namespace Pcrl.Train.Quantisation;

/// <summary>
/// y = x·Wᵀ with a frozen W that is made when it is needed, forward and again backward, and thrown away each time: autograd's own product would keep it in between.
/// </summary>
internal sealed class FrozenLinear : autograd.SingleTensorFunction<FrozenLinear>
{
    private const string Weight = "weight";

    public override string Name => nameof(FrozenLinear);

    /// <summary>[…, in] → […, out].</summary>
    /// <param name="x">The input; the result has its type.</param>
    /// <param name="weight">Makes W [out, in] in the type of the input.</param>
    public static Tensor Apply(Tensor x, Func<Tensor> weight) => apply(x, weight);

    public override Tensor forward(autograd.AutogradContext context, params object[] arguments)
    {
        var weight = (Func<Tensor>)arguments[1];
        context.save_data(Weight, weight);
        using var w = weight();
        return nn.functional.linear((Tensor)arguments[0], w);
    }

    public override List<Tensor> backward(autograd.AutogradContext context, Tensor gradient)
    {
        using var w = ((Func<Tensor>)context.get_data(Weight))();
        return [gradient.matmul(w), null!]; // the second argument is no tensor
    }
}
