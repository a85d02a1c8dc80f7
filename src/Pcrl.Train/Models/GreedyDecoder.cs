using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Models;

/// <summary>Writes reports by taking the likeliest token each time; for evaluation while training.</summary>
public static class GreedyDecoder
{
    /// <summary>Token ids of each study's findings, without the end token.</summary>
    /// <param name="llama">The LLM, in evaluation mode.</param>
    /// <param name="prompt">[B, T, D]: prompts of equal length.</param>
    /// <param name="endToken">Ends a text.</param>
    /// <param name="maximum">Most tokens of a text.</param>
    public static IReadOnlyList<IReadOnlyList<int>> Decode(Llama llama, Tensor prompt, int endToken, int maximum)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        using var cache = new KeyValueCache();
        int batch = (int)prompt.shape[0];
        var texts = Enumerable.Range(0, batch).Select(_ => new List<int>()).ToArray();
        var done = new bool[batch];
        var next = prompt;
        for (int i = 0; i < maximum && done.Contains(false); i++)
        {
            using var step = NewDisposeScope();
            var hidden = llama.Hidden(next, cache);
            var ids = llama.Logits(hidden.select(1, hidden.shape[1] - 1)).argmax(1, keepdim: true); // [B, 1]
            long[] chosen = ids.cpu().data<long>().ToArray();
            for (int row = 0; row < batch; row++)
            {
                done[row] |= chosen[row] == endToken;
                if (!done[row])
                    texts[row].Add((int)chosen[row]);
            }
            next = llama.Embed(ids).MoveToOuterDisposeScope();
        }
        return texts;
    }
}
