using Pcrl.Train.Torch;
using static TorchSharp.torch;

namespace Pcrl.Train.Quantisation;

/// <summary>A part of a model as <see cref="Checkpointed"/> wants it: a function of its input and of constants.</summary>
internal delegate Tensor Part(Tensor x, IReadOnlyList<Tensor> constants);

/// <summary>
/// A part of a model that keeps only its input: what backward needs is computed a second time then. The random numbers of the second time are those of the first.
/// </summary>
internal sealed class Checkpointed : autograd.SingleTensorFunction<Checkpointed>
{
    private const string Function = "function", Constants = "constants";

    public override string Name => nameof(Checkpointed);

    /// <summary>part(x, constants), where gradients lead to x and to the trained weights of the part.</summary>
    /// <param name="part">Depends on nothing with a gradient but its input and <paramref name="weights"/>.</param>
    /// <param name="x">The input.</param>
    /// <param name="constants">Kept until backward, whatever becomes of the caller's dispose scope.</param>
    /// <param name="weights">Every one of them is used.</param>
    public static Tensor Apply(Part part, Tensor x, IReadOnlyList<Tensor> constants, IReadOnlyList<Tensor> weights) =>
        apply([part, constants.Count, x, .. constants, .. weights]);

    public override Tensor forward(autograd.AutogradContext context, params object[] arguments)
    {
        var (part, constants) = ((Part)arguments[0], (int)arguments[1]);
        List<Tensor> tensors = [.. arguments.OfType<Tensor>()];
        var random = TorchDevice.Random.get_state(); // the context takes hold of it after this method only: the caller's scope disposes of it
        context.save_for_backward([.. tensors, random]);
        context.save_data(Function, part);
        context.save_data(Constants, constants);
        using var nothing = no_grad();
        return part(tensors[0], tensors.GetRange(1, constants));
    }

    public override List<Tensor> backward(autograd.AutogradContext context, Tensor gradient)
    {
        using var scope = NewDisposeScope(); // TorchSharp opens none around this method: without, all of it would stay until the end of the step
        var saved = context.get_saved_variables();
        var (part, constants) = ((Part)context.get_data(Function), (int)context.get_data(Constants));
        var now = TorchDevice.Random.get_state();
        TorchDevice.Random.set_state(saved[^1]);
        using var again = enable_grad();
        var x = saved[0].detach().requires_grad_();
        var y = part(x, saved.GetRange(1, constants));
        var gradients = autograd.grad([y], [x, .. saved.Skip(1 + constants).SkipLast(1)], [gradient]);
        TorchDevice.Random.set_state(now);
        gradient.Dispose();
        return [null!, null!, gradients[0].MoveToOuterDisposeScope(), .. Enumerable.Repeat<Tensor>(null!, constants),
            .. gradients.Skip(1).Select(g => g.MoveToOuterDisposeScope())]; // one for each argument
    }
}
