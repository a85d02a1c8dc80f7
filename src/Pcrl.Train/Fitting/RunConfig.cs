using Pcrl.Runtime.Language;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using System.Text.Json.Serialization;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Vision;
using Pcrl.Train.Data;
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

    /// <summary>Studies to look at after every epoch of the joint fit; 0: none.</summary>
    public int Validation { get; init; }

    /// <summary>Studies to measure on; their seeds are never trained on.</summary>
    public int HeldOut { get; init; } = 300;

    /// <summary>Seed of the first training study; the others follow by counting.</summary>
    public ulong TrainingSeed { get; init; } = 1_000_000;

    /// <summary>Seed of the first validation study.</summary>
    public ulong ValidationSeed { get; init; } = 890_000_000;

    /// <summary>Seed of the first held-out study.</summary>
    public ulong HeldOutSeed { get; init; } = 900_000_000;

    /// <summary>0 (easy) to 1 (subtle).</summary>
    public float Difficulty { get; init; } = 0.5f;

    /// <summary>Rows and columns of the slices as the phantom's scanner makes them.</summary>
    public int ImageSize { get; init; } = 128;

    /// <summary>Different wordings of each study's findings; 0: one, which says the same fact always in the same words, so that scores of texts tell of facts alone.</summary>
    public int Wordings { get; init; } = 4;

    /// <summary>What contradicts itself, or null.</summary>
    internal string? Problem() =>
        !(Difficulty is >= 0 and <= 1) ? $"difficulty is {Difficulty}, not in 0..1"
        : ImageSize is < 32 or > 1024 ? $"image_size is {ImageSize}, not in 32..1024"
        : Training < 1 || HeldOut < 1 || Wordings < 0 || Validation < 0 ? "training and held_out must be at least 1, wordings and validation not negative"
        : Meet(TrainingSeed, Training, ValidationSeed, Validation) ? "the seeds of training and validation meet"
        : Meet(TrainingSeed, Training, HeldOutSeed, HeldOut) ? "the seeds of training and held_out meet"
        : Meet(ValidationSeed, Validation, HeldOutSeed, HeldOut) ? "the seeds of validation and held_out meet"
        : null;

    private static bool Meet(UInt128 first, int count, UInt128 other, int otherCount) => first < other + (uint)otherCount && other < first + (uint)count;
}

/// <summary>One optimisation with AdamW.</summary>
public record FitConfig
{
    /// <summary>Optimizer steps.</summary>
    public int Steps { get; init; } = 500;

    /// <summary>Samples of one batch: slices for the trunk, texts or studies for the rest.</summary>
    public int Batch { get; init; } = 16;

    /// <summary>Batches whose gradients are averaged for one step.</summary>
    public int Accumulate { get; init; } = 1;

    /// <summary>Highest learning rate.</summary>
    public double LearningRate { get; init; } = 1e-3;

    /// <summary>Share of the steps in which the rate rises.</summary>
    public double WarmUp { get; init; } = 0.1;

    /// <summary>Decoupled weight decay.</summary>
    public double WeightDecay { get; init; }

    /// <summary>Largest norm of the whole gradient.</summary>
    public double ClipNorm { get; init; } = 1;

    /// <summary>What is impossible about these numbers, or null.</summary>
    /// <param name="key">What stands before it in the message.</param>
    internal string? FitProblem(string key) =>
        Steps < 1 || Batch < 1 || Accumulate < 1 ? $"{key}: steps, batch and accumulate must be at least 1"
        : !(LearningRate is > 0 and <= 1000) ? $"{key}: learning_rate is {LearningRate}, not in 0..1000"
        : !(WarmUp is >= 0 and <= 1) ? $"{key}: warm_up is {WarmUp}, not in 0..1"
        : !(WeightDecay >= 0) ? $"{key}: weight_decay is {WeightDecay}, which is negative"
        : !(ClipNorm > 0) ? $"{key}: clip_norm is {ClipNorm}, not more than 0"
        : this is TrunkFitConfig { Augmentation: not (>= 0 and <= 10) } or ScanFitConfig { ScanWeight: not (>= 0 and <= 1e6f) } ? $"{key}: augmentation or scan_weight is negative or too large"
        : null;
}

/// <summary>The optimisation of the trunk.</summary>
public record TrunkFitConfig : FitConfig
{
    /// <summary>
    /// Compute in bfloat16 (weights and losses stay float32) on a GPU and on processors with AVX512_BF16, where it is about twice as fast; others, where it would be much slower,
    /// compute in float32.
    /// </summary>
    public bool Bfloat16 { get; init; }

    /// <summary>How far slices are turned, moved, rewindowed and made noisy before the trunk sees them; 0: not at all (see <see cref="SliceAugmentation"/>).</summary>
    public float Augmentation { get; init; } = 1;

    /// <summary>Teach where on the slices of phantoms lesions and organs are, beside what a slice shows; and of a real slice that some cell shows what its labels name.</summary>
    public bool Cells { get; init; } = true;

    /// <summary>Teach side and region of a slice's lesions, beside their kind. Without it (and <see cref="Cells"/>) the trunk knows what labels like those of CQ500 tell.</summary>
    public bool Places { get; init; } = true;
}

/// <summary>How real scans join: the trunk goes on learning from them and the phantoms, and studies spliced from them join the joint fit.</summary>
public sealed record ScanFitConfig : TrunkFitConfig
{
    /// <summary>Weight of a real slice beside a phantom's: it knows fewer labels, and those are what it is there for.</summary>
    public float ScanWeight { get; init; } = 1;

    /// <summary>Changed copies of the scans, whose slices spliced studies are put together from (see <see cref="Data.StudySplicer"/>); as many studies of an epoch are spliced.</summary>
    public int Views { get; init; } = 1000;

    /// <summary>
    /// How far the slices of the views are changed, as <see cref="TrunkFitConfig.Augmentation"/> is for the trunk. What the trunk makes of slices that are changed as far as those it learned from is
    /// much less sure of thin blood than what it makes of a scan as it is, and a report would learn from texts that its features do not bear out.
    /// </summary>
    public float ViewAugmentation { get; init; } = 0.3f;

    /// <summary>Copies of the scans with a painted bleeding more (see <see cref="Data.PaintedBlood"/>).</summary>
    public int Painted { get; init; }
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

    /// <summary>Studies of the joint fit.</summary>
    public DataConfig Data { get; init; } = new();

    /// <summary>Phantoms.</summary>
    public PhantomConfig Phantoms { get; init; } = new();

    /// <summary>Weights that are brought along; what is not is trained on phantoms.</summary>
    public PretrainedConfig Pretrained { get; init; } = new();

    /// <summary>Tokenizer.</summary>
    public TokenizerConfig Tokenizer { get; init; } = new();

    /// <summary>Text around the visual tokens.</summary>
    public PromptTemplate Prompt { get; init; } = PromptTemplate.ReportGeneration;

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

    /// <summary>Teaching trunk and branches real scans; of use only where there are some.</summary>
    public ScanFitConfig ScanFit { get; init; } = new();

    /// <summary>Teaching the LLM to write findings from words.</summary>
    public FitConfig LanguageFit { get; init; } = new();

    /// <summary>Training branches and adapters on reports and clues.</summary>
    public JointFitConfig JointFit { get; init; } = new();

    /// <summary>Slices of a study (8 layers of 3).</summary>
    [JsonIgnore]
    public int SliceCount => 24;

    /// <summary>The model's shape for a tokenizer.</summary>
    public ModelShape Shape(TokenizerData tokenizer) => Shape(tokenizer.Count);

    /// <summary>The model's shape for a number of tokens.</summary>
    public ModelShape Shape(int vocabulary) => new(
        Visual with { TokenWidth = Language.HiddenSize }, Language with { VocabSize = vocabulary }, Lora,
        Loss.TextEncoder == "bert" ? Bert : null, LanguageBase);

    /// <summary>Refuses what can be described and counted, but not fitted: an LLM that is neither brought along nor can be taught here.</summary>
    /// <param name="several">Whether several fits start from one LLM in one process.</param>
    /// <param name="scans">Whether views of real scans join, behind all other studies.</param>
    /// <exception cref="InputException">Says what is missing.</exception>
    internal void CheckFit(bool several = false, bool scans = false)
    {
        if (scans && JointFit.Studies > 0)
            throw new InputException(Name, "joint_fit.studies takes the first studies, and views of scans stand behind all others: it must be 0 with scans");
        if (several && LanguageBase != BaseWeights.Float32)
            throw new InputException(Name, "language_base is not float32: a quantised LLM is in memory once, and one fit is all that a process can make over it");
        if (LanguageBase != BaseWeights.Float32 && Pretrained.Language is null)
            throw new InputException(Name, "language_base is not float32, so the LLM cannot be taught here: pretrained.language must name its weights");
        if (LanguageBase != BaseWeights.Float32 && Threads > 1)
            throw new InputException(Name, "each thread has a copy of the model, which a quantised LLM is too large for: threads must be 1");
        InputException.ThrowIfMissing(Pretrained.Trunk, Pretrained.Language, Pretrained.Bert, Pretrained.BertVocabulary, Data.Path, Data.Clues);
    }

    /// <summary>What cannot go together, or null.</summary>
    private string? Problem()
    {
        return NumberProblem()
            ?? TrunkFit.FitProblem("trunk_fit") ?? ScanFit.FitProblem("scan_fit") ?? LanguageFit.FitProblem("language_fit") ?? JointFit.FitProblem("joint_fit")
            ?? (Name.Length == 0 || Name is "." or ".." || Name.Any(c => c == '/' || char.IsControl(c)) ? $"name is '{Name}', which cannot be a folder's name"
            : Language.Problem() is { } language ? $"language: {language}"
            : (Visual with { TokenWidth = Language.HiddenSize }).Problem() is { } visual ? $"visual.{visual}"
            : Lora.Problem() is { } lora ? $"lora: {lora}"
            : Loss.Problem() is { } loss ? $"loss: {loss}"
            : JointFit.Problem() is { } fit ? $"joint_fit: {fit}"
            : Data.Problem() is { } data ? $"data: {data}"
            : Threads is < 1 or > 256 ? $"threads is {Threads}, not in 1..256"
            : Phantoms.Problem() is { } phantoms ? $"phantoms: {phantoms}"
            : Tokenizer.Problem() is { } tokenizer ? $"tokenizer: {tokenizer}"
            : new[] { TrunkFit, ScanFit }.Any(f => f is { Cells: true, Places: false }) ? "trunk_fit, scan_fit: cells teach places, so places cannot be false with them"
            : ScanFit is not { Views: >= 0 and <= 100_000, Painted: >= 0 and <= 100_000 } ? "scan_fit: views and painted must be 0 to 100000"
            : ScanFit.ViewAugmentation is not (>= 0 and <= 10) ? "scan_fit: view_augmentation is negative or too large"
            : Loss.Theme > 0 && JointFit.Batch < 2 * Threads ? $"joint_fit.batch is {JointFit.Batch}: L_CLt compares studies, so each of {Threads} threads needs two"
            : Loss is { TextEncoder: "bert", Entity: 0, Theme: 0 } ? "loss.text_encoder is bert, but neither entity nor theme is aligned"
            : Loss.TextEncoder == "bert" && Bert.Problem() is { } bert ? $"bert: {bert}"
            : Loss.TextEncoder == "bert" && Loss.TextTokens > Bert.MaxPositionEmbeddings ? $"loss.text_tokens is {Loss.TextTokens}, bert has positions for {Bert.MaxPositionEmbeddings}"
            : Loss.TextEncoder == "bert" && Pretrained is { Language: null, Bert: null } && Tokenizer.Tokens + Tokenizer.SpecialTokens.Count > Bert.VocabSize
                ? $"bert.vocab_size is {Bert.VocabSize}, fewer than the tokenizer's {Tokenizer.Tokens + Tokenizer.SpecialTokens.Count}"
            : Data is { Source: "phantoms", Clues: not null } && Phantoms.Wordings == 0 ? "data.clues are made of free wordings, but phantoms.wordings is 0"
            : JointFit.Patience > 0 && Data.Source == "phantoms" && Phantoms.Validation == 0 ? "joint_fit.patience needs phantoms.validation"
            : ContextLength <= Visual.TokenCount(SliceCount) ? $"context_length is {ContextLength}, no more than there are visual tokens"
            : ContextLength > Language.MaxPositionEmbeddings ? $"context_length is {ContextLength}, the LLM has positions for {Language.MaxPositionEmbeddings}"
            : null);
    }

    private static readonly JsonDocumentOptions Comments = new() { CommentHandling = JsonCommentHandling.Skip, AllowTrailingCommas = true, AllowDuplicateProperties = false };

    private static readonly JsonSerializerOptions Options = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        UnmappedMemberHandling = JsonUnmappedMemberHandling.Disallow,
        RespectNullableAnnotations = true,
        RespectRequiredConstructorParameters = true,
        WriteIndented = true,
        ReadCommentHandling = JsonCommentHandling.Skip,
        AllowTrailingCommas = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>Reads a configuration and applies overrides.</summary>
    /// <param name="path">The JSON file. Its key <c>base</c> names another one, relative to it, whose values it replaces key by key.</param>
    /// <param name="overrides"><c>key=value</c> with dotted keys, as in <c>trunk_fit.steps=100</c>; values are JSON, or text where that fails.</param>
    /// <exception cref="InputException">Unreadable, an unknown key, a value of the wrong kind, or values that cannot go together.</exception>
    public static RunConfig Load(string path, IEnumerable<string> overrides)
    {
        RunConfig config;
        try
        {
            config = Read(path, 0).Deserialize<RunConfig>(Options)!;
        }
        catch (JsonException e)
        {
            throw new InputException(path, $"is not a configuration ({JsonFile.Problem(e)})", e);
        }
        foreach (string assignment in overrides)
            config = config.NumberProblem() is null ? config.With(assignment) : config; // else it is refused below
        return config.Problem() is { } problem ? throw new InputException(path, problem) : config;
    }

    /// <summary>JSON knows numbers like 1e999 as infinite, and cannot write them again.</summary>
    private string? NumberProblem()
    {
        try
        {
            ToJson();
            return null;
        }
        catch (ArgumentException)
        {
            return "holds a number that is too large";
        }
    }

    /// <summary>A file's keys over those of its base.</summary>
    private static JsonObject Read(string path, int depth)
    {
        const int deepest = 8;
        try
        {
            var own = JsonNode.Parse(JsonFile.Bytes(path).Span, documentOptions: Comments) as JsonObject
                ?? throw new InputException(path, "is not a configuration (which is a JSON object)");
            if (!own.Remove("base", out var name))
                return own;
            if (name?.GetValueKind() != JsonValueKind.String || depth == deepest)
                throw new InputException(path, "is not a configuration (base must name a file, and bases cannot go round in circles)");
            var merged = Read(Path.Combine(Path.GetDirectoryName(path)!, name.GetValue<string>()), depth + 1);
            Replace(merged, own);
            return merged;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw InputException.Unreadable(path, e);
        }
        catch (JsonException e)
        {
            throw new InputException(path, $"is not a configuration ({JsonFile.Problem(e)})", e);
        }
    }

    private static void Replace(JsonObject into, JsonObject values)
    {
        foreach (var (key, value) in values.ToList())
        {
            if (value is JsonObject inner && into[key] is JsonObject outer)
                Replace(outer, inner);
            else
                into[key] = value?.DeepClone();
        }
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
            throw new InputException(assignment, $"does not fit ({JsonFile.Problem(e)})", e);
        }
    }

    /// <summary>The whole configuration as JSON text.</summary>
    public string ToJson() => JsonSerializer.Serialize(this, Options);
}
