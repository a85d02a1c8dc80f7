using Pcrl.Kernels;
using Pcrl.Kernels.Convolution;

namespace Pcrl.Runtime.Vision;

/// <summary>
/// Layers in the order they run. While it is built nothing is allocated for activations; <see cref="Allocate"/> then gives
/// values that are never alive at the same time the same memory. Several threads may run it at once, each in a lane of its own: lanes share
/// layers and weights, not activations.
/// </summary>
/// <param name="device">Where it runs.</param>
/// <param name="weights">Gives the weights.</param>
/// <param name="lanes">Lanes that there are to be.</param>
internal sealed class Network(Device device, WeightReader weights, int lanes = 1) : IDisposable
{
    /// <summary>Memory is given out in so many elements: extents stay within an int, and lanes begin at a cache line.</summary>
    private const int Row = 1 << 10;

    private readonly List<Step> _steps = [];
    private readonly List<Tensor> _memory = []; // its own

    /// <summary>A value that someone else holds the memory of, a tensor for each lane.</summary>
    public static Value Bind(params Tensor[] tensors) => new(tensors[0].Shape) { Tensors = tensors };

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
    public Value Add(Operator op, Value input) => Add(device.Prepare(op, input.Shape), input);

    /// <summary>Adds a layer, which is the network's from now on.</summary>
    public Value Add(Layer layer, Value input, Value? residual = null, Value? into = null)
    {
        var output = into ?? new Value(layer.Output);
        input.LastUse = Math.Max(input.LastUse, _steps.Count);
        if (residual is not null)
            residual.LastUse = Math.Max(residual.LastUse, _steps.Count);
        _steps.Add(new(layer, input, output, residual));
        return output;
    }

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
            if (step.Output.Tensors is not null)
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
            slots[slot] = (Math.Max(slots[slot].Size, Row * ((step.Output.Shape.Count + Row - 1) / Row)), step.Output.LastUse);
            slotOf[step.Output] = slot;
        }
        List<Tensor> lent = [.. idle?._memory ?? []];
        Tensor[] memory = [.. slots.Select(slot => Memory(slot.Size * lanes, lent))];
        foreach (var (value, slot) in slotOf)
            value.Tensors = [.. Enumerable.Range(0, lanes).Select(lane => memory[slot].View(value.Shape, lane * slots[slot].Size))];
    }

    /// <summary>Runs all layers; cancellation is looked at before each.</summary>
    public void Run(CancellationToken cancellation, int lane = 0)
    {
        foreach (var step in _steps)
        {
            cancellation.ThrowIfCancellationRequested();
            step.Layer.Run(step.Input.Tensors![lane], step.Output.Tensors![lane], step.Residual?.Tensors![lane]);
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

    /// <summary>Takes the first lent tensor that is large enough, else a new one.</summary>
    private Tensor Memory(long size, List<Tensor> lent)
    {
        if (lent.Find(t => t.Shape.Count >= size) is { } found)
        {
            lent.Remove(found);
            return found;
        }
        _memory.Add(device.NewTensor(new((int)(size / Row), 1, 1, Row)));
        return _memory[^1];
    }

    /// <summary>What a layer reads or writes.</summary>
    internal sealed class Value(Shape shape)
    {
        public Shape Shape { get; } = shape;

        /// <summary>The memory of each lane, once there is some.</summary>
        public Tensor[]? Tensors { get; set; }

        /// <summary>Number of the last step that reads it.</summary>
        public int LastUse { get; set; } = -1;
    }

    private sealed record Step(Layer Layer, Value Input, Value Output, Value? Residual);
}
