using Pcrl.Runtime.Bundles;
using Pcrl.Train.Losses;
using Pcrl.Train.Text;
using static TorchSharp.torch;

namespace Pcrl.Train.Models;

/// <summary>
/// The generation prompt: head ‖ visual tokens ‖ tail ‖ findings ‖ end of text. Head and tail are tokenised apart from each other and
/// from the findings, exactly as the runtime does.
/// </summary>
public sealed class Prompt
{
    private readonly long[] _head, _tail;

    /// <summary>Tokenises the template.</summary>
    public Prompt(PromptTemplate template, Tokenizer tokenizer)
        : this(tokenizer.EncodePrompt(template.Head), tokenizer.EncodePrompt(template.Tail))
    {
    }

    /// <summary>A prompt of given token ids.</summary>
    public Prompt(IEnumerable<int> head, IEnumerable<int> tail)
    {
        _head = [.. head.Select(id => (long)id)];
        _tail = [.. tail.Select(id => (long)id)];
    }

    /// <summary>Tokens around the visual ones.</summary>
    public int TokenCount => _head.Length + _tail.Length;

    /// <summary>Embeddings of head ‖ visual ‖ tail: visual tokens [B, N, D] → [B, head + N + tail, D], in the type that the LLM computes in.</summary>
    public Tensor Embed(Llama llama, Tensor visual)
    {
        using var scope = NewDisposeScope();
        var head = Rows(llama, _head, visual.shape[0]);
        return cat([head, visual.to(head.dtype), Rows(llama, _tail, visual.shape[0])], dim: 1).MoveToOuterDisposeScope();
    }

    /// <summary>What the LLM reads of a study: head ‖ a slot for each visual token ‖ tail ‖ findings but for their last token, which nothing follows.</summary>
    /// <param name="visualTokens">Visual tokens of a study.</param>
    /// <param name="findings">Token ids with the end token.</param>
    public long[] Sequence(int visualTokens, int[] findings) =>
        [.. _head, .. Enumerable.Repeat(PackedRows.VisualSlot, visualTokens), .. _tail, .. findings[..^1].Select(id => (long)id)];

    /// <summary>L_g of a batch: the findings' tokens, end of text included, each predicted from all before it.</summary>
    /// <param name="llama">The LLM.</param>
    /// <param name="visual">[B, N, D].</param>
    /// <param name="findings">Token ids with the end token, one array per study.</param>
    public Tensor Loss(Llama llama, Tensor visual, IReadOnlyList<int[]> findings)
    {
        using var scope = NewDisposeScope();
        int visualTokens = (int)visual.shape[1];
        var rows = PackedRows.Of([.. findings.Select(f => Sequence(visualTokens, f))]);
        return Loss(llama, llama.Hidden(rows, rows.Embeddings(llama, visual)), rows, visualTokens, findings).MoveToOuterDisposeScope();
    }

    /// <summary>L_g from hidden states that are there already.</summary>
    /// <param name="llama">The LLM.</param>
    /// <param name="hidden">[rows · width, D] of rows whose first sequences are the studies'.</param>
    /// <param name="rows">Where the sequences stand.</param>
    /// <param name="visualTokens">Visual tokens of a study.</param>
    /// <param name="findings">Token ids with the end token, one array per study.</param>
    /// <param name="weights">What a token of each study weighs; null where all weigh the same.</param>
    internal Tensor Loss(Llama llama, Tensor hidden, PackedRows rows, int visualTokens, IReadOnlyList<int[]> findings, float[]? weights = null)
    {
        using var scope = NewDisposeScope();
        long first = TokenCount + visualTokens - 1; // the prompt's last position predicts the first token
        var positions = findings.SelectMany((f, study) => f.Select((_, i) => rows.Start(study) + first + i));
        var logits = llama.Logits(hidden.index_select(0, tensor(positions.ToArray()))); // [tokens of all findings, V]
        var targets = tensor(findings.SelectMany(f => f).Select(id => (long)id).ToArray());
        var loss = weights is null
            ? LanguageModelLoss.Mean(logits, targets)
            : LanguageModelLoss.Mean(logits, targets, tensor(findings.SelectMany((f, study) => f.Select(_ => weights[study])).ToArray()));
        return loss.MoveToOuterDisposeScope();
    }

    private static Tensor Rows(Llama llama, long[] ids, long batch) =>
        llama.Embed(tensor(ids).unsqueeze(0)).expand(batch, -1, -1);
}
