using Pcrl.Train.Checkpoints;
using Pcrl.Train.Clues;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Models.Sam;

/// <summary>Settings of <see cref="SamMaskGenerator"/>; the defaults are the reference implementation's.</summary>
public sealed record SamGeneratorConfig
{
    /// <summary>Points per side of the grid on the whole picture.</summary>
    public int PointsPerSide { get; init; } = 32;

    /// <summary>Points decoded at once: memory only, not the result.</summary>
    public int PointsPerBatch { get; init; } = 32;

    /// <summary>Masks need a higher predicted IoU.</summary>
    public double PredIouThresh { get; init; } = 0.88;

    /// <summary>Masks need at least this stability.</summary>
    public double StabilityScoreThresh { get; init; } = 0.95;

    /// <summary>Stability is the IoU of the mask cut at plus and at minus this logit.</summary>
    public double StabilityScoreOffset { get; init; } = 1;

    /// <summary>Largest overlap of two masks' boxes within a crop.</summary>
    public double BoxNmsThresh { get; init; } = 0.7;

    /// <summary>Layers of crops beyond the whole picture.</summary>
    public int CropNLayers { get; init; }

    /// <summary>Largest overlap of two masks' boxes from different crops.</summary>
    public double CropNmsThresh { get; init; } = 0.7;

    /// <summary>Overlap of the first layer's crops as a share of the short side.</summary>
    public double CropOverlapRatio { get; init; } = 512.0 / 1500;

    /// <summary>Points per side shrink by this factor with every layer.</summary>
    public int CropNPointsDownscaleFactor { get; init; } = 1;

    /// <summary>Holes and islands with fewer pixels are removed; 0 leaves them.</summary>
    public int MinMaskRegionArea { get; init; }
}

/// <summary>One mask of a gallery.</summary>
/// <param name="Mask">The mask over the whole picture.</param>
/// <param name="Box">Its box.</param>
/// <param name="PredictedIou">The model's own opinion of its quality.</param>
/// <param name="Stability">IoU of the mask cut a little higher and a little lower.</param>
/// <param name="PointX">Where it was asked for.</param>
/// <param name="PointY"><inheritdoc cref="PointX"/></param>
/// <param name="Crop">The crop it was found in; far edges exclusive.</param>
public sealed record SamMask(RunLengthMask Mask, MaskBox Box, float PredictedIou, float Stability, double PointX, double PointY, MaskBox Crop)
{
    /// <summary>Pixels.</summary>
    public int Area => Mask.Area;
}

/// <summary>Asks a model for the masks at a grid of points and keeps the good, different ones.</summary>
public sealed class SamMaskGenerator(SamModel model, SamGeneratorConfig config)
{
    /// <summary>Largest number of full-size logits alive at a time.</summary>
    private const long MaximumLogits = 1 << 24;

    /// <summary>All masks of a picture, the best first within each crop.</summary>
    /// <param name="picture">[height, width, 3], 0 to 255.</param>
    /// <param name="height">Rows.</param>
    /// <param name="width">Columns.</param>
    /// <param name="cancellation">Checked between batches.</param>
    public IReadOnlyList<SamMask> Generate(ReadOnlySpan<byte> picture, int height, int width, CancellationToken cancellation = default)
    {
        using var nothing = no_grad();
        var crops = SamGrid.Crops(height, width, config.CropNLayers, config.CropOverlapRatio);
        var found = new List<SamMask>();
        foreach (var (crop, layer) in crops)
        {
            using var scope = NewDisposeScope();
            int rows = crop.Bottom - crop.Top, columns = crop.Right - crop.Left;
            var (embedding, input) = Embed(Cut(picture, width, crop), rows, columns);
            int side = (int)(config.PointsPerSide / Math.Pow(config.CropNPointsDownscaleFactor, layer));
            double[] grid = SamGrid.Points(side);
            var candidates = new List<SamMask>();
            for (int first = 0; first < side * side; first += config.PointsPerBatch)
            {
                cancellation.ThrowIfCancellationRequested();
                using var batch = NewDisposeScope();
                double[] points = [.. grid.Skip(2 * first).Take(2 * config.PointsPerBatch)
                    .Select((v, i) => v * (i % 2 == 0 ? columns : rows))];
                var prompts = new SamPrompts(Prompt(points, rows, columns, input), ones(points.Length / 2, 1, dtype: int32));
                var (masks, iou) = model.Predict(embedding, prompts, multimask: true);
                candidates.AddRange(Select(masks, iou, points, input, crop, height, width));
            }
            found.AddRange(Distinct(candidates, [.. candidates.Select(c => c.PredictedIou)], config.BoxNmsThresh));
        }
        if (crops.Count > 1)
        {
            // Smaller crops see more detail: their version of a mask wins.
            found = Distinct(found, [.. found.Select(m => 1f / ((m.Crop.Right - m.Crop.Left) * (m.Crop.Bottom - m.Crop.Top)))], config.CropNmsThresh);
        }
        return config.MinMaskRegionArea > 0 ? CleanUp(found) : found;
    }

    /// <summary>Embeds a picture: [1, D, g, g] and the size to which it was resized.</summary>
    public (Tensor Embedding, (int Height, int Width) Input) Embed(ReadOnlySpan<byte> picture, int height, int width)
    {
        using var scope = NewDisposeScope();
        var input = PictureResize.Fit(height, width, model.Config.ImageSize);
        byte[] resized = PictureResize.Resize(picture, height, width, 3, input.Height, input.Width);
        var pixels = tensor(resized, uint8).view(1, input.Height, input.Width, 3).permute(0, 3, 1, 2).to(float32);
        return (model.ImageEncoder.forward(model.Preprocess(pixels)).MoveToOuterDisposeScope(), input);
    }

    /// <summary>Points in pixels of the crop → prompt coordinates [N, 1, 2] in pixels of the resized picture.</summary>
    private static Tensor Prompt(double[] points, int rows, int columns, (int Height, int Width) input)
    {
        float[] scaled = [.. points.Select((v, i) => (float)(v * (i % 2 == 0 ? (double)input.Width / columns : (double)input.Height / rows)))];
        return tensor(scaled).view(-1, 1, 2);
    }

    private static byte[] Cut(ReadOnlySpan<byte> picture, int width, MaskBox crop)
    {
        int bytes = (crop.Right - crop.Left) * 3;
        var cut = new byte[(crop.Bottom - crop.Top) * bytes];
        for (int y = crop.Top; y < crop.Bottom; y++)
            picture.Slice((y * width + crop.Left) * 3, bytes).CopyTo(cut.AsSpan((y - crop.Top) * bytes));
        return cut;
    }

    /// <summary>Filters a batch of masks by quality and place. Separate from the network so that it can be tested without one.</summary>
    /// <param name="masks">Low-resolution logits [N, 3, L, L].</param>
    /// <param name="iou">Predicted IoU [N, 3].</param>
    /// <param name="points">The N points (x, y) in pixels of the crop.</param>
    /// <param name="input">Size of the resized crop.</param>
    /// <param name="crop">The crop inside the picture.</param>
    /// <param name="height">Rows of the picture.</param>
    /// <param name="width">Columns of the picture.</param>
    public IEnumerable<SamMask> Select(
        Tensor masks, Tensor iou, double[] points, (int Height, int Width) input, MaskBox crop, int height, int width)
    {
        using var scope = NewDisposeScope();
        int rows = crop.Bottom - crop.Top, columns = crop.Right - crop.Left;
        int perPoint = (int)iou.shape[1];
        float[] quality = Weights.Floats(iou);
        long[] good = [.. Enumerable.Range(0, quality.Length).Where(i => config.PredIouThresh <= 0 || quality[i] > config.PredIouThresh).Select(i => (long)i)];
        var flat = masks.flatten(0, 1).unsqueeze(1); // [N·3, 1, L, L]
        // The two enlargements are the memory: as many masks at a time as fit.
        long step = Math.Max(1, MaximumLogits / Math.Max((long)model.Config.ImageSize * model.Config.ImageSize, (long)rows * columns));
        var selected = new List<SamMask>();
        for (long first = 0; first < good.Length; first += step)
        {
            using var part = NewDisposeScope();
            long[] indices = good[(int)first..(int)Math.Min(first + step, good.Length)];
            var logits = model.Postprocess(flat.index_select(0, tensor(indices)), input, (rows, columns)).flatten(1); // [n, H·W]
            float[] stability = Weights.Floats(Stability(logits, config.StabilityScoreOffset));
            using var binary = logits.gt(0);
            for (int i = 0; i < indices.Length; i++)
            {
                if (config.StabilityScoreThresh > 0 && !(stability[i] >= config.StabilityScoreThresh)) // NaN of an empty mask goes
                    continue;
                bool[] mask = binary[i].cpu().data<bool>().ToArray();
                var box = MaskGeometry.Box(mask, rows, columns);
                box = new MaskBox(box.Left + crop.Left, box.Top + crop.Top, box.Right + crop.Left, box.Bottom + crop.Top);
                if (TouchesCropEdge(box, crop, height, width))
                    continue;
                int point = (int)indices[i] / perPoint;
                selected.Add(new SamMask(
                    RunLengthMask.Encode(Uncrop(mask, crop, height, width), height, width), box, quality[indices[i]], stability[i],
                    points[2 * point] + crop.Left, points[2 * point + 1] + crop.Top, crop));
            }
        }
        return selected;
    }

    /// <summary>|logit &gt; offset| / |logit &gt; −offset| of every row: [n, pixels] → [n]. NaN where both are empty.</summary>
    public static Tensor Stability(Tensor logits, double offset)
    {
        using var scope = NewDisposeScope();
        return (logits.gt(offset).sum(1).to(float32) / logits.gt(-offset).sum(1).to(float32)).MoveToOuterDisposeScope();
    }

    /// <summary>A mask cut off by its crop is seen whole by another crop, unless the picture itself ends there.</summary>
    private static bool TouchesCropEdge(MaskBox box, MaskBox crop, int height, int width)
    {
        static bool Near(int a, int b) => Math.Abs(a - b) <= 20;
        return (Near(box.Left, crop.Left) && !Near(box.Left, 0)) || (Near(box.Top, crop.Top) && !Near(box.Top, 0))
            || (Near(box.Right, crop.Right) && !Near(box.Right, width)) || (Near(box.Bottom, crop.Bottom) && !Near(box.Bottom, height));
    }

    private static bool[] Uncrop(bool[] mask, MaskBox crop, int height, int width)
    {
        int rows = crop.Bottom - crop.Top, columns = crop.Right - crop.Left;
        if (rows == height && columns == width)
            return mask;
        var whole = new bool[height * width];
        for (int y = 0; y < rows; y++)
            mask.AsSpan(y * columns, columns).CopyTo(whole.AsSpan((y + crop.Top) * width + crop.Left));
        return whole;
    }

    /// <summary>Non-maximum suppression by boxes, the highest score first.</summary>
    public static List<SamMask> Distinct(IReadOnlyList<SamMask> masks, float[] scores, double threshold)
    {
        float[] boxes = [.. masks.SelectMany(m => new float[] { m.Box.Left, m.Box.Top, m.Box.Right, m.Box.Bottom })];
        return [.. MaskGeometry.Suppress(boxes, scores, threshold).Select(i => masks[i])];
    }

    private List<SamMask> CleanUp(List<SamMask> masks)
    {
        var cleaned = new List<SamMask>();
        var scores = new List<float>();
        foreach (var mask in masks)
        {
            int height = mask.Mask.Height, width = mask.Mask.Width;
            var (pixels, filled) = MaskGeometry.RemoveSmallRegions(mask.Mask.Decode(), height, width, config.MinMaskRegionArea, holes: true);
            (pixels, bool cut) = MaskGeometry.RemoveSmallRegions(pixels, height, width, config.MinMaskRegionArea, holes: false);
            bool changed = filled || cut;
            scores.Add(changed ? 0 : 1); // of two that became alike, the one that needed no repair stays
            cleaned.Add(!changed ? mask : mask with
            {
                Mask = RunLengthMask.Encode(pixels, height, width),
                Box = MaskGeometry.Box(pixels, height, width),
            });
        }
        return Distinct(cleaned, [.. scores], Math.Max(config.BoxNmsThresh, config.CropNmsThresh));
    }
}
