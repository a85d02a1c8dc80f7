using Pcrl.Kernels;
using Pcrl.Kernels.Convolution;

namespace Pcrl.Runtime.Vision;

/// <summary>
/// Layers in the order they run. While it is built nothing is allocated for activations; <see cref="Allocate"/> then gives
/// values that are never alive at the same time the same memory.
/// </summary>
internal sealed class Network(Device device, WeightReader weights) : IDisposable
{
    private readonly List<Step> _steps = [];
    private readonly List<Tensor> _memory = []; // its own

    /// <summary>A value that someone else holds the memory of.</summary>
    public static Value Bind(Tensor tensor) => new(tensor.Shape) { Tensor = tensor };

    /// <summary>Adds a convolution with the weights <c>name.weight</c> and <c>name.bias</c>.</summary>
    public Value Add(string name, Conv2d op, Value input, Value? residual = null) =>
        Add(Prepare(name, op, input, [op.Out, op.In / op.Groups, op.Kernel.H, op.Kernel.W], op.Out), input, residual);

    /// <inheritdoc cref="Add(string, Conv2d, Value, Value?)"/>
    public Value Add(string name, ConvTranspose2d op, Value input) =>
        Add(Prepare(name, op, input, [op.In, op.Out, op.Kernel.H, op.Kernel.W], op.Out), input);

    /// <summary>Adds a linear layer with the weights <c>name.weight</c> and <c>name.bias</c>.</summary>
    public Value Add(string name, Linear op, Value input, Value? into = null) =>
        Add(Prepare(name, op, input, [op.Out, op.In], op.Out), input, into: into);

    /// <summary>Adds an operator without weights.</summary>
    public Value Add(Operator op, Value input, Value? into = null) => Add(device.Prepare(op, input.Shape), input, into: into);

    /// <summary>Allocates the activations.</summary>
    /// <param name="keep">Values that no later layer overwrites.</param>
    /// <param name="idle">A network that never runs between the start of this one and the last use of its values: its memory is used where it is large enough.</param>
    public void Allocate(ReadOnlySpan<Value> keep, Network? idle = null)
    {
        foreach (var value in keep)
            value.LastUse = int.MaxValue;
        var slots = new List<(long Size, int FreeAfter)>();
        var slotOf = new Dictionary<Value, int>();
        for (int i = 0; i < _steps.Count; i++)
        {
            var step = _steps[i];
            if (step.Output.Tensor is not null)
                continue;
            // A residual that ends here may be written over: the layer reads each of its elements before it writes it.
            int slot = step.Residual is { } residual && residual.LastUse == i && slotOf.TryGetValue(residual, out int shared)
                ? shared
                : slots.FindIndex(s => s.FreeAfter < i);
            if (slot < 0)
            {
                slot = slots.Count;
                slots.Add(default);
            }
            slots[slot] = (Math.Max(slots[slot].Size, step.Output.Shape.Count), step.Output.LastUse);
            slotOf[step.Output] = slot;
        }
        List<Tensor> lent = [.. idle?._memory ?? []];
        Tensor[] memory = [.. slots.Select(slot => Memory(slot.Size, lent))];
        foreach (var (value, slot) in slotOf)
            value.Tensor = memory[slot].View(value.Shape);
    }

    /// <summary>Runs all layers; cancellation is looked at before each.</summary>
    public void Run(CancellationToken cancellation)
    {
        foreach (var step in _steps)
        {
            cancellation.ThrowIfCancellationRequested();
            step.Layer.Run(step.Input.Tensor!, step.Output.Tensor!, step.Residual?.Tensor);
        }
    }

    public void Dispose()
    {
        foreach (var step in _steps)
            step.Layer.Dispose();
        foreach (var memory in _memory)
            memory.Dispose();
    }

    private Layer Prepare(string name, Operator op, Value input, ReadOnlySpan<int> weightShape, int biases)
    {
        // The bias is copied: the reader's span lives only until its next call.
        float[] bias = weights(name + ".bias", [biases]).ToArray();
        return device.Prepare(op, input.Shape, weights(name + ".weight", weightShape), bias);
    }

    private Value Add(Layer layer, Value input, Value? residual = null, Value? into = null)
    {
        var output = into ?? new Value(layer.Output);
        input.LastUse = Math.Max(input.LastUse, _steps.Count);
        if (residual is not null)
            residual.LastUse = Math.Max(residual.LastUse, _steps.Count);
        _steps.Add(new(layer, input, output, residual));
        return output;
    }

    /// <summary>Takes the first lent tensor that is large enough, else a new one.</summary>
    private Tensor Memory(long size, List<Tensor> lent)
    {
        if (lent.Find(t => t.Shape.Count >= size) is { } found)
        {
            lent.Remove(found);
            return found;
        }
        _memory.Add(device.NewTensor(Flat(size)));
        return _memory[^1];
    }

    /// <summary>A shape of at least <paramref name="size"/> elements whose extents stay within an int.</summary>
    private static Shape Flat(long size)
    {
        const int Row = 1 << 10;
        return new((int)((size + Row - 1) / Row), 1, 1, Row);
    }

    /// <summary>What a layer reads or writes.</summary>
    internal sealed class Value(Shape shape)
    {
        public Shape Shape { get; } = shape;

        /// <summary>The memory, once there is some.</summary>
        public Tensor? Tensor { get; set; }

        /// <summary>Number of the last step that reads it.</summary>
        public int LastUse { get; set; } = -1;
    }

    private sealed record Step(Layer Layer, Value Input, Value Output, Value? Residual);
}
