using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Clues;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Models.Clip;

/// <summary>Says how well a picture and a sentence fit: MedCLIP or CLIP.</summary>
public abstract class ImageTextScorer : IDisposable
{
    private const int Batch = 32;

    /// <summary>Side of the square pictures that the model sees.</summary>
    protected abstract int ImageSize { get; }

    /// <summary>Per-channel mean and standard deviation of the input in 0..1.</summary>
    protected abstract (IReadOnlyList<float> Mean, IReadOnlyList<float> Std) Normalisation { get; }

    /// <summary>Normalised pictures [B, 3, S, S] → embeddings [B, P].</summary>
    protected abstract Tensor EmbedImages(Tensor pictures);

    /// <summary>One sentence → embedding [1, P].</summary>
    protected abstract Tensor EmbedText(string text);

    /// <summary>Unit vectors of sentences: [N, P]. The caller disposes of it.</summary>
    public Tensor Texts(IReadOnlyList<string> texts)
    {
        using var nothing = no_grad();
        using var scope = NewDisposeScope();
        // One at a time: MedCLIP averages over padding, so a batch would change its answers.
        return nn.functional.normalize(cat([.. texts.Select(EmbedText)]), dim: -1).MoveToOuterDisposeScope();
    }

    /// <summary>Cosines of grey pictures with sentences: [pictures, texts].</summary>
    /// <param name="pictures">Square, row-major, all of one side.</param>
    /// <param name="texts">What <see cref="Texts"/> gave.</param>
    /// <param name="cancellation">Checked between batches.</param>
    public float[,] Scores(IReadOnlyList<byte[]> pictures, Tensor texts, CancellationToken cancellation = default)
    {
        using var nothing = no_grad();
        int columns = (int)texts.shape[0];
        var scores = new float[pictures.Count, columns];
        for (int first = 0; first < pictures.Count; first += Batch)
        {
            cancellation.ThrowIfCancellationRequested();
            using var scope = NewDisposeScope();
            var input = Input([.. pictures.Skip(first).Take(Batch)]);
            float[] cosines = Weights.Floats(nn.functional.normalize(EmbedImages(input), dim: -1).mm(texts.t()));
            Buffer.BlockCopy(cosines, 0, scores, first * columns * sizeof(float), cosines.Length * sizeof(float));
        }
        return scores;
    }

    /// <summary>Grey pictures → [B, 3, S, S], resized as the model's authors do and normalised.</summary>
    public Tensor Input(IReadOnlyList<byte[]> pictures)
    {
        using var scope = NewDisposeScope();
        var parts = pictures.Select(picture =>
        {
            int side = (int)Math.Sqrt(picture.Length);
            byte[] resized = PictureResize.Resize(picture, side, side, 1, ImageSize, ImageSize, ResizeFilter.Bicubic);
            return tensor(resized, uint8).view(1, ImageSize, ImageSize);
        });
        var grey = stack([.. parts]).to(float32) / 255; // [B, 1, S, S]
        var (mean, std) = Normalisation;
        return ((grey - tensor(mean.ToArray()).view(3, 1, 1)) / tensor(std.ToArray()).view(3, 1, 1)).MoveToOuterDisposeScope();
    }

    /// <summary>
    /// Opens a folder with weights of MedCLIP (and <c>vocab.txt</c>) or CLIP (and <c>vocab.json</c>, <c>merges.txt</c>); the names of the weights
    /// tell which, their shapes the sizes.
    /// </summary>
    /// <exception cref="InputException">Missing, broken, or of another architecture.</exception>
    public static ImageTextScorer Open(string folder)
    {
        using var weights = Checkpoint.Open(folder);
        var names = weights.Names.ToHashSet();
        if (names.Contains("visual_projection.weight") || OpenAiClip.Recognises(names))
            return ClipScorer.Open(folder, weights, OpenAiClip.Recognises(names));
        if (names.Contains("text_model.projection_head.weight"))
            return MedClipScorer.Open(folder, weights);
        throw new InputException(weights.Path, "holds the weights of neither MedCLIP (text_model.projection_head.weight) nor CLIP " +
            "(visual_projection.weight in Hugging Face's names, visual.conv1.weight in OpenAI's)");
    }

    /// <inheritdoc/>
    public abstract void Dispose();

    /// <summary>Numbers of "prefixN." among the names, plus one: how many layers there are.</summary>
    internal static int Layers(ITensorSource weights, string prefix)
    {
        int count = 0;
        while (weights.Names.Any(name => name.StartsWith($"{prefix}{count}.", StringComparison.Ordinal)))
            count++;
        return count;
    }

    /// <summary>One dimension of a weight that must be there with that many, at least 1.</summary>
    internal static int Size(ITensorSource weights, string name, int dimension)
    {
        var shape = weights.Shape(name);
        return dimension < shape.Count && shape[dimension] is > 0 and <= int.MaxValue
            ? (int)shape[dimension]
            : throw new InputException(weights.Path, $"tensor {name} has the impossible shape [{string.Join(", ", shape)}]");
    }
}
