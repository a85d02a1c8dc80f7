using System.Text.RegularExpressions;
using Microsoft.ML.Tokenizers;
using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Models.Clip;

/// <summary>CLIP with its byte-pair vocabulary.</summary>
public sealed partial class ClipScorer : ImageTextScorer
{
    private const int HeadSize = 64; // of every published CLIP

    private readonly ClipModel _model;
    private readonly BpeTokenizer _tokenizer;

    /// <summary>A scorer over a model and a vocabulary; the model is disposed of with it.</summary>
    public ClipScorer(ClipModel model, BpeTokenizer tokenizer)
    {
        _model = model;
        _tokenizer = tokenizer;
        model.eval();
    }

    /// <inheritdoc/>
    protected override int ImageSize => _model.Config.ImageSize;

    /// <inheritdoc/>
    protected override (IReadOnlyList<float> Mean, IReadOnlyList<float> Std) Normalisation => (_model.Config.Mean, _model.Config.Std);

    /// <inheritdoc/>
    protected override Tensor EmbedImages(Tensor pictures) => _model.Images(pictures);

    /// <inheritdoc/>
    protected override Tensor EmbedText(string text)
    {
        using var ids = tensor(Tokens(text, _tokenizer, _model.Config)).unsqueeze(0);
        return _model.Texts(ids);
    }

    /// <summary>Start token, the text's tokens (cut to the context), end token.</summary>
    public static long[] Tokens(string text, BpeTokenizer tokenizer, ClipConfig config)
    {
        long end = config.VocabSize - 1;
        var ids = tokenizer.EncodeToIds(text).Select(id => (long)id).Take(config.ContextLength - 2);
        return [end - 1, .. ids, end];
    }

    /// <summary>Reads <c>vocab.json</c> and <c>merges.txt</c>.</summary>
    /// <exception cref="InputException">Missing or broken.</exception>
    public static BpeTokenizer ReadVocabulary(string folder)
    {
        try
        {
            return BpeTokenizer.Create(
                Path.Combine(folder, "vocab.json"), Path.Combine(folder, "merges.txt"), new RegexPreTokenizer(Words(), null),
                new LowerCaseNormalizer(), endOfWordSuffix: "</w>");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or System.Text.Json.JsonException
            or InvalidOperationException or FormatException)
        {
            throw new InputException(folder, $"has no usable vocab.json and merges.txt ({e.Message})", e);
        }
    }

    /// <summary>Opens weights under Hugging Face's names or OpenAI's.</summary>
    internal static ClipScorer Open(string folder, ITensorSource weights, bool openAi)
    {
        var config = openAi ? OpenAiClip.Shape(weights) : Shape(weights);
        config = config with { VisionHeads = config.VisionWidth / HeadSize, TextHeads = config.TextWidth / HeadSize };
        if (config.VisionHeads == 0 || config.TextHeads == 0)
            throw new InputException(weights.Path, $"is narrower than one attention head of {HeadSize}");
        var model = new ClipModel(config);
        try
        {
            if (openAi)
                OpenAiClip.Load(weights, model);
            else
                Weights.Load(weights, Weights.Of(model), ignore: ClipModel.Ignorable);
            return new ClipScorer(model, ReadVocabulary(folder));
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    private static ClipConfig Shape(ITensorSource weights)
    {
        const string vision = "vision_model.encoder.layers.", text = "text_model.encoder.layers.";
        int patch = Size(weights, "vision_model.embeddings.patch_embedding.weight", 2);
        int side = (int)Math.Round(Math.Sqrt(Size(weights, "vision_model.embeddings.position_embedding.weight", 0) - 1));
        return new ClipConfig
        {
            ImageSize = side * patch,
            PatchSize = patch,
            VisionWidth = Size(weights, "visual_projection.weight", 1),
            VisionLayers = Layers(weights, vision),
            VocabSize = Size(weights, "text_model.embeddings.token_embedding.weight", 0),
            ContextLength = Size(weights, "text_model.embeddings.position_embedding.weight", 0),
            TextWidth = Size(weights, "text_projection.weight", 1),
            TextLayers = Layers(weights, text),
            ProjectionDim = Size(weights, "visual_projection.weight", 0),
        };
    }

    /// <inheritdoc/>
    public override void Dispose() => _model.Dispose();

    [GeneratedRegex(@"'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", RegexOptions.IgnoreCase | RegexOptions.CultureInvariant)]
    private static partial Regex Words();
}
