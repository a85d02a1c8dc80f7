using System.Text.Json;
using Pcrl.Runtime;
using Pcrl.Runtime.Language;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Text;

namespace Pcrl.Convert;

/// <summary>A language model as it comes to the converter.</summary>
/// <param name="Name">For people (<c>general.name</c>).</param>
/// <param name="Config">Dimensions.</param>
/// <param name="Weights">Base weights by Hugging Face's names.</param>
/// <param name="Tokenizer">As many tokens as the embedding has rows.</param>
/// <param name="ChatTemplate">Jinja template for chat programs, or null.</param>
/// <param name="Files">Everything it is read from; empty for a model in memory.</param>
public sealed record LlmCheckpoint(
    string Name, LlmConfig Config, ITensorSource Weights, TokenizerData Tokenizer, string? ChatTemplate, IReadOnlyList<string> Files) : IDisposable
{
    /// <summary>
    /// Opens a folder: Hugging Face's layout (<c>config.json</c>, safetensors or <c>.bin</c>, <c>tokenizer.json</c>), or Meta's (<c>params.json</c>,
    /// <c>consolidated.00.pth</c>, <c>tokenizer.model</c>). LLaMA-3 and 3.1 of any size.
    /// </summary>
    /// <exception cref="InputException">Neither of them, incomplete, or another architecture.</exception>
    public static LlmCheckpoint Open(string folder)
    {
        if (!Directory.Exists(folder))
            throw InputException.NoFolder(folder);
        if (File.Exists(Path.Combine(folder, "config.json")))
            return OpenHuggingFace(folder);
        return File.Exists(Path.Combine(folder, MetaCheckpoint.ParametersFile))
            ? MetaCheckpoint.OpenFolder(folder)
            : throw new InputException(folder, $"holds neither config.json (Hugging Face) nor {MetaCheckpoint.ParametersFile} (Meta)");
    }

    private static LlmCheckpoint OpenHuggingFace(string folder)
    {
        var config = ReadConfig(Path.Combine(folder, "config.json"));
        var tokenizer = TokenizerData.Load(Path.Combine(folder, "tokenizer.json"));
        return new LlmCheckpoint(NameOf(folder), config, Checkpoint.Open(folder), tokenizer, ReadChatTemplate(folder), Directory.GetFiles(folder));
    }

    /// <summary>A folder's own name, to call the model by.</summary>
    internal static string NameOf(string folder) => Path.GetFileName(Path.TrimEndingDirectorySeparator(Path.GetFullPath(folder)));

    private static LlmConfig ReadConfig(string path)
    {
        var json = Json.ReadObject(path);
        if (Json.Text(path, json, "model_type") is not "llama")
            throw new InputException(path, $"describes the architecture '{Json.Text(path, json, "model_type")}', llama was expected");
        foreach (string flag in (string[])["attention_bias", "mlp_bias"])
        {
            if (Json.Flag(path, json, flag))
                throw new InputException(path, $"has {flag}, which LLaMA-3 has not");
        }
        if (Json.Text(path, json, "hidden_act") is { } activation and not "silu")
            throw new InputException(path, $"has the activation {activation}, silu was expected");
        int heads = Json.Integer(path, json, "num_attention_heads");
        // Newer files keep everything about the rotation in rope_parameters.
        var rope = Json.Find(json, "rope_parameters") ?? Json.Find(json, "rope_scaling");
        var config = new LlmConfig
        {
            HiddenSize = Json.Integer(path, json, "hidden_size"),
            IntermediateSize = Json.Integer(path, json, "intermediate_size"),
            NumHiddenLayers = Json.Integer(path, json, "num_hidden_layers"),
            NumAttentionHeads = heads,
            NumKeyValueHeads = Json.Integer(path, json, "num_key_value_heads", heads),
            VocabSize = Json.Integer(path, json, "vocab_size"),
            MaxPositionEmbeddings = Json.Integer(path, json, "max_position_embeddings"),
            RopeTheta = rope is { } given && Json.Find(given, "rope_theta") is not null
                ? Json.Number(path, given, "rope_theta") : Json.Number(path, json, "rope_theta", 10000),
            RopeScaling = rope is { } scaling ? ReadRopeScaling(path, scaling) : null,
            RmsNormEps = Json.Number(path, json, "rms_norm_eps"),
            TieWordEmbeddings = Json.Flag(path, json, "tie_word_embeddings"),
        };
        if (config.Problem() is { } problem)
            throw new InputException(path, $"describes an impossible model: {problem}");
        return Json.Integer(path, json, "head_dim", config.HeadSize) == config.HeadSize
            ? config : throw new InputException(path, $"head_dim is not hidden_size / num_attention_heads = {config.HeadSize}");
    }

    private static RopeScaling? ReadRopeScaling(string path, JsonElement rope) => (Json.Text(path, rope, "rope_type") ?? Json.Text(path, rope, "type")) switch
    {
        "default" => null,
        "llama3" => new RopeScaling(
            Json.Number(path, rope, "factor"), Json.Number(path, rope, "low_freq_factor"), Json.Number(path, rope, "high_freq_factor"),
            Json.Integer(path, rope, "original_max_position_embeddings")),
        var type => throw new InputException(path, $"scales the rotary embedding by '{type}', only llama3 is known"),
    };

    private static string? ReadChatTemplate(string folder)
    {
        string own = Path.Combine(folder, "chat_template.jinja"), config = Path.Combine(folder, "tokenizer_config.json");
        try
        {
            if (File.Exists(own))
                return File.ReadAllText(own);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw InputException.Unreadable(own, e);
        }
        if (!File.Exists(config))
            return null;
        var json = Json.ReadObject(config);
        if (Json.Find(json, "chat_template") is not { ValueKind: JsonValueKind.Array } several)
            return Json.Text(config, json, "chat_template");
        var chosen = several.EnumerateArray().Where(t => Json.Text(config, t, "name") == "default").ToList();
        return chosen.Count == 0 ? null : Json.Text(config, chosen[0], "template");
    }

    /// <inheritdoc/>
    public void Dispose() => Weights.Dispose();
}
