using System.Text.RegularExpressions;
using Pcrl.Runtime;
using Pcrl.Runtime.Language;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Text;

namespace Pcrl.Convert;

/// <summary>
/// Weights in Meta's layout under Hugging Face's names. Meta rotates neighbouring rows of q and k, Hugging Face row i with row i + half of the head: the rows are
/// handed out in Hugging Face's order.
/// </summary>
internal sealed partial class MetaCheckpoint(ITensorSource file, LlmConfig config) : ITensorSource
{
    public const string ParametersFile = "params.json";

    private static readonly (string Meta, string HuggingFace)[] LayerNames =
    [
        ("attention.wq", "self_attn.q_proj"), ("attention.wk", "self_attn.k_proj"), ("attention.wv", "self_attn.v_proj"), ("attention.wo", "self_attn.o_proj"),
        ("feed_forward.w1", "mlp.gate_proj"), ("feed_forward.w3", "mlp.up_proj"), ("feed_forward.w2", "mlp.down_proj"),
        ("attention_norm", "input_layernorm"), ("ffn_norm", "post_attention_layernorm"),
    ];

    private readonly Dictionary<string, string> _metaNames = file.Names.Select(name => (Meta: name, HuggingFace: HuggingFaceName(name)))
        .Where(n => n.HuggingFace is not null).ToDictionary(n => n.HuggingFace!, n => n.Meta);

    /// <exception cref="InputException">Incomplete, broken, or in several parts.</exception>
    public static LlmCheckpoint OpenFolder(string folder)
    {
        string[] parts = [.. Directory.GetFiles(folder, "consolidated.*.pth").Order(StringComparer.Ordinal)];
        if (parts.Length != 1)
            throw new InputException(folder, $"holds {parts.Length} files consolidated.*.pth; only models in one part are read, bring the others in Hugging Face's layout");
        var tokenizer = TokenizerData.LoadTiktoken(System.IO.Path.Combine(folder, "tokenizer.model"));
        var file = Checkpoint.Open(parts[0]);
        try
        {
            var config = ReadConfig(System.IO.Path.Combine(folder, ParametersFile), file, tokenizer);
            return new LlmCheckpoint(
                LlmCheckpoint.NameOf(folder), config, new MetaCheckpoint(file, config), tokenizer, ChatTemplate: null, Directory.GetFiles(folder));
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    private static LlmConfig ReadConfig(string path, ITensorSource file, TokenizerData tokenizer)
    {
        var json = Json.ReadObject(path);
        int heads = Json.Integer(path, json, "n_heads");
        bool scaled = Json.Flag(path, json, "use_scaled_rope");
        var config = new LlmConfig
        {
            HiddenSize = Json.Integer(path, json, "dim"),
            IntermediateSize = (int)Math.Min(file.Shape("layers.0.feed_forward.w1.weight")[0], int.MaxValue),
            NumHiddenLayers = Json.Integer(path, json, "n_layers"),
            NumAttentionHeads = heads,
            NumKeyValueHeads = Json.Integer(path, json, "n_kv_heads", heads),
            VocabSize = tokenizer.Count,
            MaxPositionEmbeddings = scaled ? 131072 : 8192, // not in the file
            RopeTheta = Json.Number(path, json, "rope_theta", 500000),
            RopeScaling = scaled ? new RopeScaling(8, 1, 4, 8192) : null, // constants of Meta's own program
            RmsNormEps = Json.Number(path, json, "norm_eps"),
            TieWordEmbeddings = !file.Names.Contains("output.weight"),
        };
        return config.Problem() is { } problem ? throw new InputException(path, $"describes an impossible model: {problem}") : config;
    }

    private static string? HuggingFaceName(string meta)
    {
        switch (meta)
        {
            case "tok_embeddings.weight":
                return "model.embed_tokens.weight";
            case "norm.weight":
                return "model.norm.weight";
            case "output.weight":
                return "lm_head.weight";
        }
        var match = LayerName().Match(meta);
        var known = LayerNames.FirstOrDefault(n => n.Meta == match.Groups["part"].Value);
        return known.HuggingFace is null ? null : $"model.layers.{match.Groups["layer"].Value}.{known.HuggingFace}.weight";
    }

    [GeneratedRegex(@"^layers\.(?<layer>\d+)\.(?<part>.+)\.weight$")]
    private static partial Regex LayerName();

    public string Path => file.Path;

    public IReadOnlyCollection<string> Names => _metaNames.Keys;

    private string Meta(string name) => _metaNames.TryGetValue(name, out string? meta) ? meta : throw new InputException(Path, $"has no tensor for {name}");

    public IReadOnlyList<long> Shape(string name) => file.Shape(Meta(name));

    public float[] ReadFloats(string name)
    {
        var values = new float[Shape(name).Aggregate(1L, (a, b) => a * b)];
        ReadFloats(name, 0, values);
        return values;
    }

    public void ReadFloats(string name, long first, Span<float> values)
    {
        bool rotates = name.EndsWith("q_proj.weight", StringComparison.Ordinal) || name.EndsWith("k_proj.weight", StringComparison.Ordinal);
        if (!rotates)
        {
            file.ReadFloats(Meta(name), first, values);
            return;
        }
        int columns = checked((int)Shape(name)[1]), half = config.HeadSize / 2;
        if (first % columns != 0 || values.Length % columns != 0)
            throw new ArgumentException("rows are read whole", nameof(values));
        for (int i = 0; i < values.Length / columns; i++)
        {
            long row = first / columns + i, head = row / config.HeadSize, within = row % config.HeadSize;
            long source = head * config.HeadSize + within % half * 2 + within / half;
            file.ReadFloats(Meta(name), source * columns, values.Slice(i * columns, columns));
        }
    }

    public long[] ReadIntegers(string name) => file.ReadIntegers(Meta(name));

    public void Dispose() => file.Dispose();
}
