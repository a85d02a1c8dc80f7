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
    {
        _head = [.. tokenizer.EncodePrompt(template.Head).Select(id => (long)id)];
        _tail = [.. tokenizer.EncodePrompt(template.Tail).Select(id => (long)id)];
    }

    /// <summary>Tokens around the visual ones.</summary>
    public int TokenCount => _head.Length + _tail.Length;

    /// <summary>Embeddings of head ‖ visual ‖ tail: visual tokens [B, N, D] → [B, head + N + tail, D].</summary>
    public Tensor Embed(Llama llama, Tensor visual)
    {
        using var scope = NewDisposeScope();
        return cat([Rows(llama, _head, visual.shape[0]), visual, Rows(llama, _tail, visual.shape[0])], dim: 1).MoveToOuterDisposeScope();
    }

    /// <summary>L_g of a batch: the findings' tokens, end of text included, each predicted from all before it.</summary>
    /// <param name="llama">The LLM.</param>
    /// <param name="visual">[B, N, D].</param>
    /// <param name="findings">Token ids with the end token, one array per study.</param>
    public Tensor Loss(Llama llama, Tensor visual, IReadOnlyList<int[]> findings)
    {
        using var scope = NewDisposeScope();
        var prompt = Embed(llama, visual);
        long batch = findings.Count, longest = findings.Max(f => f.Length);
        var inputs = new long[batch * longest];
        var targets = new long[batch * longest];
        Array.Fill(targets, LanguageModelLoss.Ignored);
        for (int row = 0; row < batch; row++)
        {
            for (int i = 0; i < findings[row].Length; i++)
                inputs[row * longest + i] = targets[row * longest + i] = findings[row][i];
        }
        // Padding stands on the right, where causal attention hides it from everything that counts.
        var text = llama.Embed(tensor(inputs).view(batch, longest)).narrow(1, 0, longest - 1);
        var hidden = llama.Hidden(cat([prompt, text], dim: 1)); // [B, prompt + longest − 1, D]
        var logits = llama.Logits(hidden.narrow(1, prompt.shape[1] - 1, longest)); // the prompt's last position predicts the first token
        return LanguageModelLoss.Mean(logits.flatten(0, 1), tensor(targets)).MoveToOuterDisposeScope();
    }

    private static Tensor Rows(Llama llama, long[] ids, long batch) =>
        llama.Embed(tensor(ids).unsqueeze(0)).expand(batch, -1, -1);
}
