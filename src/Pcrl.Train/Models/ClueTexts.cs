using Pcrl.Train.Losses;
using Pcrl.Train.Models.Clip;
using Pcrl.Train.Text;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Models;

/// <summary>How the texts of the clues become token ids: with the instruction around them for the LLM (§3.3), bare for BERT.</summary>
public sealed class ClueTexts
{
    private readonly int[] _head, _tail;
    private readonly int _longest;
    private readonly Func<string, IEnumerable<int>> _encode;

    /// <param name="config">Text encoder, instruction and longest text.</param>
    /// <param name="tokenizer">The LLM's tokenizer; BERT's too, where it was not brought with its own.</param>
    /// <param name="bertTokenizer">Word pieces of a text with [CLS] and [SEP], for BERT weights from elsewhere.</param>
    public ClueTexts(LossConfig config, Tokenizer tokenizer, Func<string, IEnumerable<int>>? bertTokenizer = null)
    {
        bool llama = config.TextEncoder == "llama";
        _encode = llama ? tokenizer.Encode : bertTokenizer ?? tokenizer.Encode;
        _head = llama ? [.. tokenizer.EncodePrompt(config.Instruction.Head)] : [];
        _tail = llama ? [.. tokenizer.EncodePrompt(config.Instruction.Tail)] : [];
        _longest = Math.Max(1, config.TextTokens - _head.Length - _tail.Length);
    }

    /// <summary>Token ids of a text, not empty unless the text is.</summary>
    public int[] Encode(string text) => text.Length == 0 ? [] : [.. _head, .. _encode(text).Take(_longest), .. _tail];

    /// <summary>BERT's representation of texts, the mean of their last hidden states: [N, D]. BERT is frozen, so no gradient leads there.</summary>
    public static Tensor Represent(Bert bert, IReadOnlyList<int[]> texts)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        int width = texts.Max(t => t.Length);
        var ids = new long[texts.Count * width];
        var mask = new long[ids.Length];
        for (int row = 0; row < texts.Count; row++)
        {
            for (int i = 0; i < texts[row].Length; i++)
                (ids[row * width + i], mask[row * width + i]) = (texts[row][i], 1);
        }
        var present = tensor(mask).view(-1, width);
        var states = bert.HiddenStates(tensor(ids).view(-1, width), present)[^1]; // [N, T, D]
        var weights = present.to(states.dtype).unsqueeze(2);
        return ((states * weights).sum(1) / weights.sum(1)).MoveToOuterDisposeScope();
    }
}
