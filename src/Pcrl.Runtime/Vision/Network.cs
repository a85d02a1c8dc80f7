using Pcrl.Kernels;
using Pcrl.Kernels.Convolution;

namespace Pcrl.Runtime.Vision;

/// <summary>
/// Layers in the order they run, and the passage of a study through them. While it is built nothing is allocated for activations;
/// <see cref="Allocate"/> then gives values that are never alive at the same time the same memory. Lanes share layers and weights, not activations.
/// </summary>
internal sealed class Network : IDisposable
{
    /// <summary>Memory is given out in so many elements: extents stay within an int, and every lane's begins at a cache line.</summary>
    private const int Row = 1 << 10;

    private readonly Device _device;
    private readonly WeightReader _weights;
    private readonly Passage _passage;
    private readonly List<Step> _steps = [];
    private readonly List<Tensor> _memory = []; // its own
    private readonly Action<int, int> _runChunk;
    private readonly Action<int, int, int>? _load;
    private readonly CancellationToken[] _cancellations; // of each study that is on its way

    /// <param name="device">Where it runs.</param>
    /// <param name="weights">Gives the weights.</param>
    /// <param name="passage">How slices go through.</param>
    /// <param name="load">Called with study, chunk and lane before the layers, to fill what is bound to the lane.</param>
    public Network(Device device, WeightReader weights, Passage passage, Action<int, int, int>? load = null)
    {
        (_device, _weights, _passage, _load) = (device, weights, passage, load);
        _runChunk = (chunk, worker) => RunChunk(study: 0, chunk, lane: _passage.Lanes == _passage.Chunks ? chunk : worker); // with more workers than chunks any of them may have got this one
        _cancellations = new CancellationToken[passage.Studies];
    }

    /// <summary>Values of all slices of a study, a tensor for each study that can be on its way; someone else holds their memory.</summary>
    public Value BindStudies(Tensor[] studies) =>
        new(studies[0].Shape with { N = _passage.Chunk }) { Tensors = [.. studies.SelectMany(_passage.Split)], Chunks = _passage.Chunks };

    /// <summary>Values of the chunk that is in a lane; someone else holds their memory, a tensor for each lane.</summary>
    public static Value BindLanes(Tensor[] lanes) => new(lanes[0].Shape) { Tensors = lanes };

    /// <summary>Adds a convolution with the weights <c>name.weight</c> and <c>name.bias</c>.</summary>
    public Value Add(string name, Conv2d op, Value input, Value? residual = null, Value? into = null) =>
        Add(Prepare(name, op, input, [op.Out, op.In / op.Groups, op.Kernel.H, op.Kernel.W], op.Out), input, residual, into);

    /// <inheritdoc cref="Add(string, Conv2d, Value, Value?, Value?)"/>
    public Value Add(string name, ConvTranspose2d op, Value input) =>
        Add(Prepare(name, op, input, [op.In, op.Out, op.Kernel.H, op.Kernel.W], op.Out), input);

    /// <summary>Adds a linear layer with the weights <c>name.weight</c> and <c>name.bias</c>.</summary>
    public Value Add(string name, Linear op, Value input, Value? into = null) =>
        Add(Prepare(name, op, input, [op.Out, op.In], op.Out), input, into: into);

    /// <summary>Adds an operator without weights.</summary>
    public Value Add(Operator op, Value input, Value? into = null) => Add(_device.Prepare(op, input.Shape), input, into: into);

    /// <summary>Allocates the activations.</summary>
    /// <param name="idle">A network that never runs between the start of this one and the last use of its values: its memory is used where it is large enough.</param>
    public void Allocate(Network? idle = null)
    {
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
            slots[slot] = (Math.Max(slots[slot].Size, (step.Output.Shape.Count + Row - 1) / Row * Row), step.Output.LastUse);
            slotOf[step.Output] = slot;
        }
        List<Tensor> lent = [.. idle?._memory ?? []];
        Tensor[] memory = [.. slots.Select(slot => Memory(slot.Size * _passage.AllLanes, lent))];
        foreach (var (value, slot) in slotOf)
            value.Tensors = [.. Enumerable.Range(0, _passage.AllLanes).Select(lane => memory[slot].View(value.Shape, lane * slots[slot].Size))];
    }

    /// <summary>Takes a study through; cancellation is looked at before each layer.</summary>
    /// <param name="study">Its number among those on their way. A guest's caller has entered a lane of the device.</param>
    /// <param name="cancellation">Ends it.</param>
    public void Run(int study, CancellationToken cancellation)
    {
        _cancellations[study] = cancellation;
        if (study == 0 && _passage.Lanes > 1)
            _device.RunLanes(_passage.Chunks, _runChunk);
        else
            for (int chunk = 0; chunk < _passage.Chunks; chunk++)
                RunChunk(study, chunk, lane: study == 0 ? 0 : _passage.Lanes + study - 1);
    }

    /// <summary>Runs all layers on what has been loaded already, for clocks. That is all of the study only where all goes through at once.</summary>
    public void RunResident()
    {
        _cancellations[0] = CancellationToken.None;
        RunLayers(study: 0, chunk: 0, lane: 0);
    }

    public void Dispose()
    {
        foreach (var step in _steps)
            step.Layer.Dispose();
        foreach (var memory in _memory)
            memory.Dispose();
    }

    private void RunChunk(int study, int chunk, int lane)
    {
        _load?.Invoke(study, chunk, lane);
        RunLayers(study, chunk, lane);
    }

    private void RunLayers(int study, int chunk, int lane)
    {
        foreach (var step in _steps)
        {
            _cancellations[study].ThrowIfCancellationRequested();
            step.Layer.Run(step.Input.Of(study, chunk, lane), step.Output.Of(study, chunk, lane), step.Residual?.Of(study, chunk, lane));
        }
    }

    private Layer Prepare(string name, Operator op, Value input, ReadOnlySpan<int> weightShape, int biases)
    {
        // The bias is copied: the reader's span lives only until its next call.
        float[] bias = _weights(name + ".bias", [biases]).ToArray();
        return _device.Prepare(op, input.Shape, _weights(name + ".weight", weightShape), bias);
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
        _memory.Add(_device.NewTensor(new Shape((int)(size / Row), 1, 1, Row)));
        return _memory[^1];
    }

    /// <summary>What a layer reads or writes, of one chunk.</summary>
    internal sealed class Value(Shape shape)
    {
        public Shape Shape { get; } = shape;

        /// <summary>The memory, once there is some: for each lane,</summary>
        public Tensor[]? Tensors { get; set; }

        /// <summary>or for each of so many chunks of each study.</summary>
        public int Chunks { get; init; }

        /// <summary>Number of the last step that reads it.</summary>
        public int LastUse { get; set; } = -1;

        public Tensor Of(int study, int chunk, int lane) => Tensors![Chunks > 0 ? study * Chunks + chunk : lane];
    }

    private sealed record Step(Layer Layer, Value Input, Value Output, Value? Residual);
}
