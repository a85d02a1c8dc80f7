using Microsoft.ML.Tokenizers;
using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Models.Clip;

/// <summary>MedCLIP with its word-piece vocabulary.</summary>
public sealed class MedClipScorer : ImageTextScorer
{
    private const int BertHeadSize = 64, SwinHeadSize = 32; // of the published models
    private const int MaximumTokens = 77; // MedCLIP's own limit

    private readonly MedClip _model;
    private readonly BertTokenizer _tokenizer;
    private readonly int _imageSize;

    /// <summary>A scorer over a model and a vocabulary; the model is disposed of with it.</summary>
    public MedClipScorer(MedClip model, MedClipConfig config, BertTokenizer tokenizer)
    {
        _model = model;
        _tokenizer = tokenizer;
        _imageSize = config.Swin?.ImageSize ?? 224;
        model.eval();
    }

    /// <inheritdoc/>
    protected override int ImageSize => _imageSize;

    /// <summary>MedCLIP's own figures, of chest X-rays.</summary>
    protected override (IReadOnlyList<float> Mean, IReadOnlyList<float> Std) Normalisation =>
        ([0.5862785803043838f, 0.5862785803043838f, 0.5862785803043838f], [0.27950088968644304f, 0.27950088968644304f, 0.27950088968644304f]);

    /// <inheritdoc/>
    protected override Tensor EmbedImages(Tensor pictures) => _model.Images(pictures);

    /// <inheritdoc/>
    protected override Tensor EmbedText(string text)
    {
        using var scope = NewDisposeScope();
        var ids = tensor(_tokenizer.EncodeToIds(text, MaximumTokens, out _, out _).Select(id => (long)id).ToArray()).unsqueeze(0);
        return _model.Texts(ids, ones_like(ids)).MoveToOuterDisposeScope();
    }

    /// <summary>Reads a word-piece vocabulary, one piece a line; text is lower-cased first, as MedCLIP's tokenizer does.</summary>
    /// <exception cref="InputException">Missing, or without the special pieces.</exception>
    public static BertTokenizer ReadVocabulary(string path)
    {
        try
        {
            return BertTokenizer.Create(path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or InvalidOperationException)
        {
            throw new InputException(path, $"is no usable word-piece vocabulary ({e.Message})", e);
        }
    }

    internal static MedClipScorer Open(string folder, ITensorSource weights)
    {
        const string bert = "text_model.model.", vision = "vision_model.model.";
        int width = Size(weights, "text_model.projection_head.weight", 1);
        var config = new MedClipConfig
        {
            ProjDim = Size(weights, "text_model.projection_head.weight", 0),
            Bert = new BertConfig
            {
                VocabSize = Size(weights, bert + "embeddings.word_embeddings.weight", 0),
                HiddenSize = width,
                NumHiddenLayers = Layers(weights, bert + "encoder.layer."),
                NumAttentionHeads = Math.Max(1, width / BertHeadSize),
                IntermediateSize = Size(weights, bert + "encoder.layer.0.intermediate.dense.weight", 0),
                MaxPositionEmbeddings = Size(weights, bert + "embeddings.position_embeddings.weight", 0),
                TypeVocabSize = Size(weights, bert + "embeddings.token_type_embeddings.weight", 0),
            },
            Swin = weights.Names.Contains(vision + "fc.weight") ? null : Swin(weights, vision),
        };
        var model = new MedClip(config);
        try
        {
            Weights.Load(weights, Weights.Of(model), ignore: MedClip.Ignorable);
            return new MedClipScorer(model, config, ReadVocabulary(Path.Combine(folder, "vocab.txt")));
        }
        catch
        {
            model.Dispose();
            throw;
        }
    }

    private static SwinConfig Swin(ITensorSource weights, string prefix)
    {
        int width = Size(weights, prefix + "embeddings.patch_embeddings.projection.weight", 0);
        int stages = Layers(weights, prefix + "encoder.layers.");
        int table = Size(weights, prefix + "encoder.layers.0.blocks.0.attention.self.relative_position_bias_table", 0);
        return new SwinConfig
        {
            EmbedDim = width,
            PatchSize = Size(weights, prefix + "embeddings.patch_embeddings.projection.weight", 2),
            Depths = [.. Enumerable.Range(0, stages).Select(i => Layers(weights, $"{prefix}encoder.layers.{i}.blocks."))],
            NumHeads = [.. Enumerable.Range(0, stages).Select(i => Math.Max(1, (width << i) / SwinHeadSize))],
            WindowSize = ((int)Math.Round(Math.Sqrt(table)) + 1) / 2,
            MlpRatio = Size(weights, prefix + "encoder.layers.0.blocks.0.intermediate.dense.weight", 0) / (double)width,
        };
    }

    /// <inheritdoc/>
    public override void Dispose() => _model.Dispose();
}
