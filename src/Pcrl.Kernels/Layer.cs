namespace Pcrl.Kernels;

/// <summary>
/// An operator made ready for one device and one input shape: the weights are packed, the algorithm is chosen, scratch is allocated.
/// Running it allocates nothing. Layers of one device run one after the other, but for those in lanes
/// (<see cref="Device.RunLanes"/>, <see cref="Device.EnterLane"/>).
/// </summary>
public abstract class Layer : IDisposable
{
    private protected Layer(Device device, Operator op, Shape input)
    {
        Device = device;
        Operator = op;
        Input = input;
        Output = op.OutputShape(input);
    }

    /// <summary>The device it runs on.</summary>
    public Device Device { get; }

    /// <summary>What it computes.</summary>
    public Operator Operator { get; }

    /// <summary>Shape of the input.</summary>
    public Shape Input { get; }

    /// <summary>Shape of the output.</summary>
    public Shape Output { get; }

    /// <summary>Computes <paramref name="output"/>; it may be the same memory as <paramref name="residual"/>, but not as <paramref name="input"/>.</summary>
    /// <exception cref="ArgumentException">A shape or a device does not fit; nothing has been computed then.</exception>
    public void Run(Tensor input, Tensor output, Tensor? residual = null)
    {
        Check(input, Input, "input");
        Check(output, Output, "output");
        if (residual is not null)
        {
            Operator.Check(Operator.TakesResidual, "takes no residual");
            Check(residual, Output, "residual");
        }
        Execute(input, output, residual);
    }

    /// <summary>Frees packed weights and scratch.</summary>
    public abstract void Dispose();

    private protected abstract void Execute(Tensor input, Tensor output, Tensor? residual);

    private void Check(Tensor tensor, Shape shape, string role)
    {
        if (tensor.Shape != shape || tensor.Device != Device)
            Operator.Check(false, $"{role} is {tensor.Shape} on {tensor.Device.Kind}, prepared for {shape} on {Device.Kind}");
    }
}
