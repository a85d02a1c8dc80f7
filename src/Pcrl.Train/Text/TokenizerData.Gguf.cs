using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;

namespace Pcrl.Train.Text;

public sealed partial record TokenizerData
{
    /// <summary>Reads the tokenizer of a bundle's <c>llm.gguf</c>.</summary>
    /// <exception cref="InputException">Missing, not a LLaMA-3 model, or special tokens stand among the others.</exception>
    public static TokenizerData LoadGguf(string path)
    {
        using var file = GgufFile.Open(path);
        LlmGguf.Validate(file);
        string[] tokens = file.GetStrings("tokenizer.ggml.tokens");
        long[] types = file.GetIntegers("tokenizer.ggml.token_type");
        int normal = Array.IndexOf(types, LlmGguf.ControlToken);
        if (normal < 0 || types.AsSpan(normal).Contains(LlmGguf.NormalToken))
            throw new InputException(path, "has special tokens elsewhere than behind all others");
        var data = new TokenizerData(tokens[..normal], file.GetStrings("tokenizer.ggml.merges"), tokens[normal..]);
        data.Check(path);
        return data;
    }
}
