using Pcrl.Runtime.Language;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Vision;
using Pcrl.Train.Losses;
using Pcrl.Train.Models;
using Pcrl.Train.Models.Clip;
using Pcrl.Train.Quantisation;
using Pcrl.Train.Text;

namespace Pcrl.Train.Fitting;

/// <summary>Which phantoms a run learns from.</summary>
public sealed record PhantomConfig
{
    /// <summary>Studies to learn from.</summary>
    public int Training { get; init; } = 2000;

    /// <summary>Studies to measure on; their seeds are never trained on.</summary>
    public int HeldOut { get; init; } = 300;

    /// <summary>Seed of the first training study; the others follow by counting.</summary>
    public ulong TrainingSeed { get; init; } = 1_000_000;

    /// <summary>Seed of the first held-out study.</summary>
    public ulong HeldOutSeed { get; init; } = 900_000_000;

    /// <summary>0 (easy) to 1 (subtle).</summary>
    public float Difficulty { get; init; } = 0.5f;

    /// <summary>Rows and columns of the slices as the phantom's scanner makes them.</summary>
    public int ImageSize { get; init; } = 128;

    /// <summary>Different wordings of each training study's findings.</summary>
    public int Wordings { get; init; } = 4;
}

/// <summary>One optimisation: AdamW, linear warm-up, then a cosine to zero.</summary>
public record FitConfig
{
    /// <summary>Optimizer steps.</summary>
    public int Steps { get; init; } = 500;

    /// <summary>Samples of one step: slices for the trunk, texts or studies for the rest.</summary>
    public int Batch { get; init; } = 16;

    /// <summary>Highest learning rate.</summary>
    public double LearningRate { get; init; } = 1e-3;

    /// <summary>Share of the steps in which the rate rises.</summary>
    public double WarmUp { get; init; } = 0.1;

    /// <summary>Decoupled weight decay.</summary>
    public double WeightDecay { get; init; }

    /// <summary>Largest norm of the whole gradient.</summary>
    public double ClipNorm { get; init; } = 1;
}

/// <summary>The optimisation of the trunk.</summary>
public sealed record TrunkFitConfig : FitConfig
{
    /// <summary>
    /// Compute in bfloat16 (weights and losses stay float32): about twice as fast on processors with AVX512_BF16, and much slower on others.
    /// </summary>
    public bool Bfloat16 { get; init; }

    /// <summary>How far slices are turned, moved, rewindowed and made noisy before the trunk sees them; 0: not at all (see <see cref="Data.SliceAugmentation"/>).</summary>
    public float Augmentation { get; init; } = 1;
}

/// <summary>
/// A whole run. It is read from one small JSON file and single values are overridden on the command line; a key that does not exist
/// is refused. Sizes that follow from others (the trunk's token width, the vocabulary) are filled in, not repeated.
/// </summary>
public sealed record RunConfig
{
    /// <summary>Name of the model.</summary>
    public string Name { get; init; } = "mini";

    /// <summary>One sentence on what the model is and what it is not; stands in its bundle.</summary>
    public string Description { get; init; } = "";

    /// <summary>Seed of every random choice of the run but the phantoms.</summary>
    public int Seed { get; init; } = 1;

    /// <summary>Threads; another number gives another model of the same quality.</summary>
    public int Threads { get; init; } = 2;

    /// <summary>Data.</summary>
    public PhantomConfig Phantoms { get; init; } = new();

    /// <summary>Tokenizer.</summary>
    public TokenizerConfig Tokenizer { get; init; } = new();

    /// <summary>Text around the visual tokens.</summary>
    public PromptTemplate Prompt { get; init; } = new(
        "<|begin_of_text|>[Img]", "[/Img][MRG]详细地用中文描述给定的多张脑CT图片并生成一份中文的脑CT报告。");

    /// <summary>Positions of the LLM's context: prompt, visual tokens and findings.</summary>
    public int ContextLength { get; init; } = 256;

    /// <summary>Visual path; its token width is the LLM's hidden size whatever stands here.</summary>
    public VisualConfig Visual { get; init; } = new();

    /// <summary>LLM; its vocabulary is the tokenizer's whatever stands here.</summary>
    public LlmConfig Language { get; init; } = new();

    /// <summary>Adapters.</summary>
    public LoraConfig Lora { get; init; } = new();

    /// <summary>How the frozen LLM lies in memory: <c>float32</c>, <c>bfloat16</c> or <c>nf4</c>. Only float32 can be taught by <c>language_fit</c>.</summary>
    public BaseWeights LanguageBase { get; init; }

    /// <summary>What the branches and adapters are trained on.</summary>
    public LossConfig Loss { get; init; } = LossConfig.ReportOnly;

    /// <summary>Text encoder of ablation (e), used where <c>loss.text_encoder</c> is <c>bert</c>.</summary>
    public BertConfig Bert { get; init; } = new();

    /// <summary>Teaching the trunk the slice labels.</summary>
    public TrunkFitConfig TrunkFit { get; init; } = new();

    /// <summary>Teaching the LLM to write findings from words.</summary>
    public FitConfig LanguageFit { get; init; } = new();

    /// <summary>Training branches and adapters on L_g.</summary>
    public FitConfig ReportFit { get; init; } = new();

    /// <summary>Slices of a study (8 layers of 3).</summary>
    [JsonIgnore]
    public int SliceCount => 24;

    /// <summary>The model's shape for a tokenizer.</summary>
    public ModelShape Shape(TokenizerData tokenizer) => Shape(tokenizer.Count);

    /// <summary>The model's shape for a number of tokens.</summary>
    public ModelShape Shape(int vocabulary) => new(
        Visual with { TokenWidth = Language.HiddenSize }, Language with { VocabSize = vocabulary }, Lora,
        Loss.TextEncoder == "bert" ? Bert : null, LanguageBase);

    private static readonly JsonSerializerOptions Options = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectNullableAnnotations = true,
        WriteIndented = true,
        ReadCommentHandling = JsonCommentHandling.Skip,
        AllowTrailingCommas = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>Reads a configuration and applies overrides.</summary>
    /// <param name="path">The JSON file.</param>
    /// <param name="overrides"><c>key=value</c> with dotted keys, as in <c>trunk_fit.steps=100</c>; values are JSON, or text where that fails.</param>
    /// <exception cref="InputException">Unreadable, an unknown key, or a value of the wrong kind.</exception>
    public static RunConfig Load(string path, IEnumerable<string> overrides)
    {
        RunConfig config;
        try
        {
            config = JsonSerializer.Deserialize<RunConfig>(File.ReadAllBytes(path), Options)
                ?? throw new InputException(path, "holds no configuration");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InputException(path, $"cannot be read ({e.Message})", e);
        }
        catch (JsonException e)
        {
            throw new InputException(path, $"is not a configuration ({FirstLine(e)})", e);
        }
        foreach (string assignment in overrides)
            config = config.With(assignment);
        return config;
    }

    /// <summary>This configuration with one value replaced.</summary>
    /// <exception cref="InputException">No such key, or a value of the wrong kind.</exception>
    public RunConfig With(string assignment)
    {
        string[] parts = assignment.TrimStart('-').Split('=', 2);
        if (parts.Length != 2)
            throw new InputException(assignment, "an override looks like --key=value");
        var root = JsonSerializer.SerializeToNode(this, Options)!;
        string[] keys = parts[0].Replace('-', '_').Split('.');
        JsonNode? node = root;
        foreach (string key in keys[..^1])
            node = (node as JsonObject)?[key];
        if (node is not JsonObject parent || !parent.ContainsKey(keys[^1]))
            throw new InputException(assignment, "no such key in the configuration");
        try
        {
            parent[keys[^1]] = JsonNode.Parse(parts[1]);
        }
        catch (JsonException)
        {
            parent[keys[^1]] = parts[1];
        }
        try
        {
            return root.Deserialize<RunConfig>(Options)!;
        }
        catch (JsonException e)
        {
            throw new InputException(assignment, $"does not fit ({FirstLine(e)})", e);
        }
    }

    /// <summary>The whole configuration as JSON text.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, Options);

    private static string FirstLine(Exception e) => e.Message.Split('\n')[0];
}
