using System.Runtime.InteropServices;

namespace Pcrl.Runtime.Language.Native;

/// <summary>
/// The rows of one <c>llama_decode</c>: each an embedding at a position of a sequence. A batch of llama.cpp is either tokens or
/// embeddings; as embeddings, prompts that begin and texts that go on share a batch.
/// </summary>
internal sealed unsafe class LlamaRows : IDisposable
{
    private readonly int _width;
    private readonly float* _embeddings;
    private readonly int* _positions, _sequences, _counts;
    private readonly int** _sequenceLists;
    private readonly sbyte* _outputs;

    /// <param name="capacity">Most rows.</param>
    /// <param name="width">Floats of a row.</param>
    public LlamaRows(int capacity, int width)
    {
        Capacity = capacity;
        _width = width;
        nuint rows = (nuint)capacity;
        _embeddings = (float*)NativeMemory.Alloc(rows * (nuint)width, sizeof(float));
        _positions = (int*)NativeMemory.Alloc(rows, sizeof(int));
        _sequences = (int*)NativeMemory.Alloc(rows, sizeof(int));
        _counts = (int*)NativeMemory.Alloc(rows, sizeof(int));
        _sequenceLists = (int**)NativeMemory.Alloc(rows, (nuint)sizeof(int*));
        _outputs = (sbyte*)NativeMemory.Alloc(rows);
        for (int row = 0; row < capacity; row++)
        {
            _counts[row] = 1;
            _sequenceLists[row] = _sequences + row;
        }
    }

    /// <summary>Most rows.</summary>
    public int Capacity { get; }

    /// <summary>Rows added since <see cref="Clear"/>.</summary>
    public int Count { get; private set; }

    /// <summary>The rows as llama.cpp takes them; valid until the next change.</summary>
    public LlamaBatch Batch => new()
    {
        Count = Count, Embeddings = _embeddings, Positions = _positions, SequenceCounts = _counts, Sequences = _sequenceLists, Outputs = _outputs,
    };

    /// <summary>Starts the next batch.</summary>
    public void Clear() => Count = 0;

    /// <summary>Adds a row and gives its embedding to be filled, [width].</summary>
    public Span<float> Add(int sequence, int position, bool output)
    {
        if (Count == Capacity)
            throw new InvalidOperationException($"more than {Capacity} rows");
        (_sequences[Count], _positions[Count], _outputs[Count]) = (sequence, position, (sbyte)(output ? 1 : 0));
        return new Span<float>(_embeddings + (long)Count++ * _width, _width);
    }

    public void Dispose()
    {
        foreach (nint block in (ReadOnlySpan<nint>)[(nint)_embeddings, (nint)_positions, (nint)_sequences, (nint)_counts, (nint)_sequenceLists, (nint)_outputs])
            NativeMemory.Free((void*)block);
    }
}
