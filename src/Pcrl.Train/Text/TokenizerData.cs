using System.Text.Encodings.Web;
using System.Text.Json;
using Pcrl.Runtime;
using Pcrl.Runtime.Language;

namespace Pcrl.Train.Text;

/// <summary>
/// A byte-level BPE tokenizer in LLaMA-3's format: what training produces, <c>tokenizer.json</c> stores and the converter packs into
/// <c>llm.gguf</c>. Ids are positions: the BPE tokens come first, the special tokens follow them.
/// </summary>
/// <param name="Tokens">BPE tokens in id order, bytes spelt in GPT-2's printable alphabet (see <see cref="ByteAlphabet"/>).</param>
/// <param name="Merges">Merges by rank, best first, each <c>"left right"</c> in the same alphabet.</param>
/// <param name="SpecialTokens">Special tokens in id order, as plain text; their first id is <c>Tokens.Count</c>.</param>
public sealed partial record TokenizerData(IReadOnlyList<string> Tokens, IReadOnlyList<string> Merges, IReadOnlyList<string> SpecialTokens)
{
    /// <summary>The special token that starts every text.</summary>
    public const string BosToken = "<|begin_of_text|>";

    /// <summary>The special token that ends every text.</summary>
    public const string EosToken = "<|end_of_text|>";

    /// <summary>The special token that ends a turn of a conversation, where the tokenizer has it.</summary>
    public const string EndOfTurnToken = "<|eot_id|>";

    /// <summary>LLaMA-3's expression that cuts a text before BPE; llama.cpp knows it as <c>llama-bpe</c>, <see cref="TextSplitter"/> does what it says.</summary>
    public const string SplitPattern =
        @"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";

    /// <summary>GPT-2's spelling of bytes as printable characters: index is the byte.</summary>
    public static IReadOnlyList<char> ByteAlphabet => LlmGguf.ByteAlphabet;

    /// <summary>Tokens of both sorts: rows of the token embedding.</summary>
    public int Count => Tokens.Count + SpecialTokens.Count;

    /// <summary>Id of <see cref="BosToken"/>.</summary>
    /// <exception cref="InvalidOperationException">It is not among the special tokens.</exception>
    public int BosId => SpecialId(BosToken);

    /// <summary>Id of <see cref="EosToken"/>.</summary>
    /// <exception cref="InvalidOperationException">It is not among the special tokens.</exception>
    public int EosId => SpecialId(EosToken);

    /// <summary>Id of a special token.</summary>
    /// <exception cref="InvalidOperationException">No such special token.</exception>
    public int SpecialId(string content)
    {
        for (int i = 0; i < SpecialTokens.Count; i++)
        {
            if (SpecialTokens[i] == content)
                return Tokens.Count + i;
        }
        throw new InvalidOperationException($"the tokenizer has no special token {content}");
    }

    /// <summary>Reads a <c>tokenizer.json</c> of the Hugging Face layout.</summary>
    /// <exception cref="InputException">Missing, not such a file, or not of LLaMA-3's kind (byte-level BPE, ids without holes).</exception>
    public static TokenizerData Load(string path)
    {
        try
        {
            using var document = JsonDocument.Parse(File.ReadAllBytes(path));
            var model = document.RootElement.GetProperty("model");
            if (model.GetProperty("type").GetString() != "BPE")
                throw new InputException(path, "is not a BPE tokenizer");
            RefuseOtherSplits(path, document.RootElement);
            string[] tokens = InIdOrder(path, 0, [.. model.GetProperty("vocab").EnumerateObject().Select(p => (p.Value.GetInt32(), p.Name))]);
            string[] merges = [.. model.GetProperty("merges").EnumerateArray().Select(Merge)];
            string[] specials = InIdOrder(path, tokens.Length, [.. document.RootElement.GetProperty("added_tokens").EnumerateArray()
                .Select(t => (t.GetProperty("id").GetInt32(), t.GetProperty("content").GetString()!))]);
            var data = new TokenizerData(tokens, merges, specials);
            data.Check(path);
            return data;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw InputException.Unreadable(path, e);
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException)
        {
            throw new InputException(path, "is not a tokenizer.json of a byte-level BPE tokenizer", e);
        }
    }

    /// <summary>Writes a <c>tokenizer.json</c> that Hugging Face's tokenizers read too.</summary>
    /// <exception cref="InputException">The file cannot be written, or the data contradicts itself.</exception>
    public void Save(string path)
    {
        Check(path);
        AtomicFile.Write(path, stream =>
        {
            // Relaxed escaping keeps the Chinese readable; the file is never embedded in HTML.
            using var json = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping });
            json.WriteStartObject();
            json.WriteString("version", "1.0");
            json.WriteNull("truncation");
            json.WriteNull("padding");
            WriteSpecialTokens(json);
            json.WriteNull("normalizer");
            WriteProcessors(json);
            WriteModel(json);
            json.WriteEndObject();
        });
    }

    private void WriteSpecialTokens(Utf8JsonWriter json)
    {
        json.WriteStartArray("added_tokens");
        for (int i = 0; i < SpecialTokens.Count; i++)
        {
            json.WriteStartObject();
            json.WriteNumber("id", Tokens.Count + i);
            json.WriteString("content", SpecialTokens[i]);
            foreach (string flag in (string[])["single_word", "lstrip", "rstrip", "normalized"])
                json.WriteBoolean(flag, false);
            json.WriteBoolean("special", true);
            json.WriteEndObject();
        }
        json.WriteEndArray();
    }

    private static void WriteProcessors(Utf8JsonWriter json)
    {
        json.WriteStartObject("pre_tokenizer");
        json.WriteString("type", "Sequence");
        json.WriteStartArray("pretokenizers");
        json.WriteStartObject();
        json.WriteString("type", "Split");
        json.WriteStartObject("pattern");
        json.WriteString("Regex", SplitPattern);
        json.WriteEndObject();
        json.WriteString("behavior", "Isolated");
        json.WriteBoolean("invert", false);
        json.WriteEndObject();
        json.WriteStartObject();
        WriteByteLevel(json);
        json.WriteEndObject();
        json.WriteEndArray();
        json.WriteEndObject();
        json.WriteNull("post_processor");
        json.WriteStartObject("decoder");
        WriteByteLevel(json);
        json.WriteEndObject();
    }

    private static void WriteByteLevel(Utf8JsonWriter json)
    {
        json.WriteString("type", "ByteLevel");
        json.WriteBoolean("add_prefix_space", false);
        json.WriteBoolean("trim_offsets", true);
        json.WriteBoolean("use_regex", false);
    }

    private void WriteModel(Utf8JsonWriter json)
    {
        json.WriteStartObject("model");
        json.WriteString("type", "BPE");
        foreach (string absent in (string[])["dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix"])
            json.WriteNull(absent);
        json.WriteBoolean("fuse_unk", false);
        json.WriteBoolean("byte_fallback", false);
        json.WriteBoolean("ignore_merges", true);
        json.WriteStartObject("vocab");
        for (int id = 0; id < Tokens.Count; id++)
            json.WriteNumber(Tokens[id], id);
        json.WriteEndObject();
        json.WriteStartArray("merges");
        foreach (string merge in Merges)
            json.WriteStringValue(merge);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    /// <summary>A text is cut before its pieces are merged; another way of cutting gives other tokens.</summary>
    private static void RefuseOtherSplits(string path, JsonElement root)
    {
        if (!root.TryGetProperty("pre_tokenizer", out var cutting) || cutting.ValueKind == JsonValueKind.Null)
            throw new InputException(path, "does not cut a text before merging, LLaMA-3's tokenizer does");
        var steps = cutting.TryGetProperty("pretokenizers", out var sequence) ? sequence.EnumerateArray().ToList() : [cutting];
        bool isLlama = steps.Exists(step => step.GetProperty("type").GetString() == "Split"
            && step.GetProperty("pattern").TryGetProperty("Regex", out var regex) && regex.GetString() == SplitPattern);
        if (!isLlama)
            throw new InputException(path, "cuts a text otherwise than LLaMA-3's tokenizer");
    }

    /// <summary>A merge stands as <c>"a b"</c> in older files and as <c>["a", "b"]</c> in newer ones.</summary>
    private static string Merge(JsonElement merge) =>
        merge.ValueKind != JsonValueKind.Array ? merge.GetString() ?? throw new FormatException()
        : merge.GetArrayLength() == 2 ? $"{merge[0].GetString()} {merge[1].GetString()}" : throw new FormatException();

    private static string[] InIdOrder(string path, int first, (int Id, string Content)[] pairs)
    {
        var ordered = new string?[pairs.Length];
        foreach (var (id, content) in pairs)
        {
            if (id < first || id - first >= pairs.Length || ordered[id - first] is not null)
                throw new InputException(path, $"token id {id} leaves a hole or stands twice");
            ordered[id - first] = content;
        }
        return ordered!;
    }

    private void Check(string path)
    {
        var known = new HashSet<string>(Count);
        foreach (string token in Tokens.Concat(SpecialTokens))
        {
            if (string.IsNullOrEmpty(token) || !known.Add(token))
                throw new InputException(path, "has an empty token, or one that stands twice");
        }
        foreach (string merge in Merges)
        {
            string[] halves = merge.Split(' ');
            if (halves.Length != 2 || !known.Contains(halves[0]) || !known.Contains(halves[1]) || !known.Contains(halves[0] + halves[1]))
                throw new InputException(path, "has a merge whose parts or result are not in the vocabulary");
        }
        if (!SpecialTokens.Contains(BosToken) || !SpecialTokens.Contains(EosToken))
            throw new InputException(path, $"lacks {BosToken} or {EosToken} among its special tokens");
    }
}
