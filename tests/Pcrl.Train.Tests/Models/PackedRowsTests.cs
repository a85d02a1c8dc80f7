using Pcrl.Runtime.Language;
using Pcrl.Train.Models;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Tests.Models;

[Collection("torch")]
public class PackedRowsTests
{
    private static readonly long[][] Sequences = [[1, 2, 3], [4, PackedRows.VisualSlot, PackedRows.VisualSlot, 5, 6, 7, 8], [9, 10], [11, 12], [13, PackedRows.VisualSlot, 14]];

    [Fact]
    public void Short_sequences_share_rows_and_none_overlap()
    {
        var rows = PackedRows.Of(Sequences);
        Assert.Equal((3, 7), (rows.Rows, rows.Width)); // 17 of 21 positions are used
        var taken = Sequences.SelectMany((s, i) => Enumerable.Range(0, s.Length).Select(k => rows.Start(i) + k)).ToList();
        Assert.Equal(taken.Count, taken.Distinct().Count());
        Assert.All(Enumerable.Range(0, Sequences.Length), i =>
            Assert.Equal(rows.Start(i) / rows.Width, (rows.Start(i) + Sequences[i].Length - 1) / rows.Width));
    }

    [Fact]
    public void Every_sequence_gets_the_hidden_states_that_it_gets_alone()
    {
        TorchDevice.Configure(threads: 1, seed: 3);
        using var scope = NewDisposeScope();
        using var llama = new Llama(new LlmConfig
        {
            VocabSize = 20, HiddenSize = 16, IntermediateSize = 32, NumHiddenLayers = 2, NumAttentionHeads = 4, NumKeyValueHeads = 2,
        }, null);
        var visual = randn(3, 16);
        var rows = PackedRows.Of(Sequences);
        var packed = llama.Hidden(rows, rows.Embeddings(llama, visual));
        int used = 0;
        for (int i = 0; i < Sequences.Length; i++)
        {
            int slots = Sequences[i].Count(t => t == PackedRows.VisualSlot);
            var single = PackedRows.Of([Sequences[i]]);
            var alone = llama.Hidden(single.Embeddings(llama, slots > 0 ? visual[used..(used + slots)] : null)).squeeze(0);
            Assert.True(packed.narrow(0, rows.Start(i), Sequences[i].Length).allclose(alone, atol: 1e-5));
            used += slots;
        }
    }
}
