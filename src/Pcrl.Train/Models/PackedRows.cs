using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Models;

/// <summary>
/// Sequences of many lengths laid side by side in rows as long as the longest, for one forward pass of the LLM: positions start anew with every sequence, and
/// none sees another, so each gets the hidden states that it would get alone. Padding is what is left over at the rows' ends.
/// </summary>
public sealed class PackedRows
{
    /// <summary>Stands for a visual token in a sequence of token ids.</summary>
    public const long VisualSlot = -1;

    private readonly long[] _starts; // flat offsets
    private readonly long[] _tokens, _positions, _owners; // [rows · width]
    private readonly long[] _slots; // flat offsets of the visual slots, sequence by sequence
    private readonly bool _shared; // whether any row holds more than one sequence

    private PackedRows(IReadOnlyList<long[]> sequences)
    {
        Width = sequences.Max(s => (long)s.Length);
        _starts = new long[sequences.Count];
        var free = new List<long>(); // of every row
        foreach (int s in Enumerable.Range(0, sequences.Count).OrderByDescending(i => sequences[i].Length)) // first fit, longest first
        {
            int row = free.FindIndex(f => f >= sequences[s].Length);
            if (row < 0)
            {
                row = free.Count;
                free.Add(Width);
            }
            else
            {
                _shared = true;
            }
            _starts[s] = row * Width + Width - free[row];
            free[row] -= sequences[s].Length;
        }
        Rows = free.Count;
        _tokens = new long[Rows * Width];
        _positions = new long[Rows * Width];
        _owners = new long[Rows * Width];
        Array.Fill(_owners, -1);
        var slots = new List<long>();
        for (int s = 0; s < sequences.Count; s++)
        {
            for (int i = 0; i < sequences[s].Length; i++)
            {
                long at = _starts[s] + i;
                bool visual = sequences[s][i] == VisualSlot;
                if (visual)
                    slots.Add(at);
                _tokens[at] = visual ? 0 : sequences[s][i];
                _positions[at] = i;
                _owners[at] = s;
            }
        }
        _slots = [.. slots];
    }

    /// <summary>Packs sequences of token ids and <see cref="VisualSlot"/>s; none may be empty.</summary>
    public static PackedRows Of(IReadOnlyList<long[]> sequences) => new(sequences);

    /// <summary>Rows.</summary>
    public long Rows { get; }

    /// <summary>Positions of a row.</summary>
    public long Width { get; }

    /// <summary>Where a sequence starts in the flattened rows.</summary>
    public long Start(int sequence) => _starts[sequence];

    /// <summary>What the LLM reads: [rows, width, D].</summary>
    /// <param name="llama">Gives the tokens' embeddings.</param>
    /// <param name="visual">[…, D]: the visual tokens in the order of the sequences and their slots; null where there is none.</param>
    public Tensor Embeddings(Llama llama, Tensor? visual)
    {
        using var scope = NewDisposeScope();
        var text = llama.Embed(Indices(_tokens)); // [rows · width, D]
        if (visual is not null)
            text = text.index_copy(0, Indices(_slots), visual.reshape(-1, text.shape[1]).to(text.dtype));
        return text.view(Rows, Width, -1).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Each position's place in its sequence, [rows, width], and who sees whom, [rows, 1, width, width]; both null where every row holds one sequence, for then the
    /// plain causal order says the same.
    /// </summary>
    internal (Tensor Positions, Tensor Mask)? Layout()
    {
        if (!_shared)
            return null;
        using var scope = NewDisposeScope();
        var owners = Indices(_owners).view(Rows, 1, Width);
        var mask = owners.unsqueeze(3).eq(owners.unsqueeze(2)).logical_and(ones(Width, Width, ScalarType.Bool).tril());
        return (Indices(_positions).view(Rows, Width).MoveToOuterDisposeScope(), mask.MoveToOuterDisposeScope());
    }

    private static Tensor Indices(long[] values) => tensor(values);
}
