using System.Text.Json;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Clues;
using Pcrl.Train.Models.Sam;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Parity.Tests;

/// <summary>Segment Anything against the goldens: the network, the automatic generator, and its logic without a network.</summary>
internal static class SamGoldens
{
    private static readonly JsonSerializerOptions SnakeCase = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    public static void Forward(GoldenCase golden)
    {
        TorchDevice.Configure(threads: Environment.ProcessorCount, seed: 0);
        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        using var sam = new SamModel(golden.Config.Deserialize<SamConfig>(SnakeCase)!);
        var weights = Weights.Of(sam).ToDictionary(w => w.Name, w => w.Value);
        var filled = golden.Filled("weights");
        Assert.Equal(filled.Keys.Order(), weights.Keys.Order());
        foreach (var (name, value) in weights)
            Weights.Set(value, filled[name].Values);

        var input = sam.Preprocess(Picture(golden));
        if (golden.Has("out.preprocessed.sample") || golden.Has("out.preprocessed"))
            golden.AssertOutput("preprocessed", Weights.Floats(input));
        var embedding = sam.ImageEncoder.Forward(input, (name, value) =>
        {
            if (golden.Has($"out.{name}") || golden.Has($"out.{name}.sample"))
                golden.AssertOutput(name, Weights.Floats(value));
        });
        golden.AssertOutput("image_embedding", Weights.Floats(embedding));
        golden.AssertOutput("dense_pe", Weights.Floats(sam.PromptEncoder.DensePositions()));
        for (int p = 1; golden.Has($"in.p{p}.points"); p++)
            Prompt(golden, sam, embedding, p);
    }

    private static Tensor Picture(GoldenCase golden)
    {
        if (golden.Has("in.picture_hwc"))
            return Input(golden, "in.picture_hwc").permute(2, 0, 1).unsqueeze(0);
        var grey = Input(golden, "in.picture_gray").repeat_interleave(2, 0).repeat_interleave(2, 1);
        return grey.unsqueeze(0).unsqueeze(0).expand(1, 3, -1, -1);
    }

    private static Tensor Input(GoldenCase golden, string name) =>
        tensor(golden.Integers(name).Select(v => (float)v).ToArray()).reshape(golden.Shape(name));

    private static void Prompt(GoldenCase golden, SamModel sam, Tensor embedding, int p)
    {
        Tensor? Optional(string name) => golden.Has(name) ? tensor(golden.Floats(name)).reshape(golden.Shape(name)) : null;
        var prompts = new SamPrompts(
            Optional($"in.p{p}.points")!, tensor(golden.Integers($"in.p{p}.labels")).reshape(golden.Shape($"in.p{p}.labels")),
            Optional($"in.p{p}.box"), Optional($"in.p{p}.mask_input"));
        var (sparse, dense) = sam.PromptEncoder.Forward(prompts);
        golden.AssertOutput($"p{p}.sparse", Weights.Floats(sparse));
        if (prompts.Masks is not null)
            golden.AssertOutput($"p{p}.dense", Weights.Floats(dense));
        bool multimask = prompts.Boxes is null;
        var (masks, iou) = sam.Predict(embedding, prompts, multimask);
        golden.AssertOutput($"p{p}.low_res_masks", Weights.Floats(masks));
        golden.AssertOutput($"p{p}.iou", Weights.Floats(iou));
        var (inputHeight, inputWidth) = Pair(golden.Config.GetProperty("input_size_hw"));
        var (height, width) = Pair(golden.Config.GetProperty("original_size_hw"));
        var whole = sam.Postprocess(masks, (inputHeight, inputWidth), (height, width));
        golden.AssertOutput($"p{p}.masks", Weights.Floats(whole));
        if (golden.Json.TryGetProperty("binary_mask_areas", out var areas))
        {
            long[] expected = [.. areas.EnumerateArray().SelectMany(a => a.EnumerateArray()).Select(a => a.GetInt64())];
            long[] got = whole.gt(0).sum([2, 3]).flatten().data<long>().ToArray();
            for (int i = 0; i < expected.Length; i++)
                Assert.InRange(got[i], expected[i] - 8, expected[i] + 8);
        }
    }

    private static (int, int) Pair(JsonElement values) => (values[0].GetInt32(), values[1].GetInt32());

    public static void AutomaticMasks(GoldenCase golden)
    {
        TorchDevice.Configure(threads: 1, seed: 0);
        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        using var sam = new SamModel(golden.Config.Deserialize<SamConfig>(SnakeCase)!);
        string weights = golden.Json.GetProperty("weights_file").GetString()!;
        using (var file = Checkpoint.Open(Path.Combine(golden.Folder, weights)))
            Weights.Load(file, Weights.Of(sam));
        var settings = golden.Config.GetProperty("generator").Deserialize<SamGeneratorConfig>(SnakeCase)!;
        var generator = new SamMaskGenerator(sam, settings);
        var (height, width) = Pair(golden.Config.GetProperty("picture_hw"));
        byte[] picture = [.. golden.Integers("in.picture_hwc").Select(v => (byte)v)];

        if (golden.Has("out.raw_iou_preds"))
            AssertRaw(golden, sam, generator, settings, picture, height, width);
        AssertMasks(golden, generator.Generate(picture, height, width));
    }

    /// <summary>Everything before the first filter: all points, all three masks.</summary>
    private static void AssertRaw(
        GoldenCase golden, SamModel sam, SamMaskGenerator generator, SamGeneratorConfig settings, byte[] picture, int height, int width)
    {
        var (embedding, input) = generator.Embed(picture, height, width);
        if (golden.Has("out.resized_picture_hwc"))
        {
            Assert.Equal(golden.Integers("out.resized_picture_hwc").Select(v => (byte)v),
                PictureResize.Resize(picture, height, width, 3, input.Height, input.Width));
        }
        double[] points = [.. SamGrid.Points(settings.PointsPerSide).Select((v, i) => v * (i % 2 == 0 ? input.Width : input.Height))];
        golden.AssertOutput("point_coords_in_input_frame", [.. points.Select(v => (float)v)]);
        var prompts = new SamPrompts(tensor(points.Select(v => (float)v).ToArray()).view(-1, 1, 2), ones(points.Length / 2, 1, dtype: int32));
        var (masks, iou) = sam.Predict(embedding, prompts, multimask: true);
        golden.AssertOutput("raw_iou_preds", Weights.Floats(iou));
        golden.AssertOutput("raw_low_res_masks", Weights.Floats(masks));
        AssertStability(golden, "raw_stability_scores", sam.Postprocess(masks, input, (height, width)), settings);
    }

    private static void AssertStability(GoldenCase golden, string output, Tensor logits, SamGeneratorConfig settings)
    {
        float[] expected = golden.Floats($"out.{output}");
        float[] got = Weights.Floats(SamMaskGenerator.Stability(logits.flatten(0, 1).flatten(1), settings.StabilityScoreOffset));
        for (int i = 0; i < expected.Length; i++)
            Assert.Equal(expected[i], float.IsNaN(got[i]) ? -1 : got[i], 2e-3f);
    }

    public static void GeneratorLogic(GoldenCase golden)
    {
        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        var settings = golden.Config.GetProperty("generator").Deserialize<SamGeneratorConfig>(SnakeCase)!;
        // Only the picture's size matters here: the network's outputs are given.
        using var sam = new SamModel(new SamConfig
        {
            ImageSize = golden.Config.GetProperty("image_size").GetInt32(), EmbedDim = 8, Depth = 1, NumHeads = 1, PromptEmbedDim = 8, DecoderHeads = 1,
        });
        var generator = new SamMaskGenerator(sam, settings);
        var (height, width) = Pair(golden.Config.GetProperty("picture_hw"));
        var masks = tensor(golden.Floats("in.low_res_masks")).reshape(golden.Shape("in.low_res_masks"));
        var iou = tensor(golden.Floats("in.iou_preds")).reshape(golden.Shape("in.iou_preds"));
        double[] points = [.. SamGrid.Points(settings.PointsPerSide).Select((v, i) => v * (i % 2 == 0 ? width : height))];
        AssertStability(golden, "stability_scores_all", sam.Postprocess(masks, (height, width), (height, width)), settings);
        var selected = generator.Select(masks, iou, points, (height, width), new MaskBox(0, 0, width, height), height, width).ToList();
        Assert.Equal(golden.Json.GetProperty("margins").GetProperty("pass_both").GetInt32(), selected.Count);
        AssertMasks(golden, SamMaskGenerator.Distinct(selected, [.. selected.Select(m => m.PredictedIou)], settings.BoxNmsThresh));
    }

    private static void AssertMasks(GoldenCase golden, IReadOnlyList<SamMask> got)
    {
        using var json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(golden.Folder, "masks.json")));
        var expected = json.RootElement.EnumerateArray().ToList();
        Assert.Equal(expected.Count, got.Count);
        double areaSlack = golden.Json.GetProperty("tolerance").GetProperty("area_pixels").GetDouble();
        double boxSlack = golden.Json.GetProperty("tolerance").GetProperty("bbox_pixels").GetDouble();
        double leastIou = golden.Json.GetProperty("tolerance").TryGetProperty("mask_iou_min", out var least) ? least.GetDouble() : 0.995;
        for (int i = 0; i < got.Count; i++)
        {
            double[] Numbers(string name) => [.. expected[i].GetProperty(name).EnumerateArray().SelectMany(
                v => v.ValueKind == JsonValueKind.Array ? v.EnumerateArray().Select(w => w.GetDouble()) : [v.GetDouble()])];
            var mask = got[i];
            Assert.InRange(mask.Area, expected[i].GetProperty("area").GetDouble() - areaSlack, expected[i].GetProperty("area").GetDouble() + areaSlack);
            Assert.Equal(expected[i].GetProperty("predicted_iou").GetDouble(), mask.PredictedIou, 1e-4);
            Assert.Equal(expected[i].GetProperty("stability_score").GetDouble(), mask.Stability, 2e-3);
            Assert.Equal(Numbers("point_coords"), new[] { mask.PointX, mask.PointY });
            Assert.Equal(Numbers("crop_box"), new double[] { mask.Crop.Left, mask.Crop.Top, mask.Crop.Right - mask.Crop.Left, mask.Crop.Bottom - mask.Crop.Top });
            double[] box = Numbers("bbox");
            double[] mine = [mask.Box.Left, mask.Box.Top, mask.Box.Right - mask.Box.Left, mask.Box.Bottom - mask.Box.Top];
            for (int k = 0; k < 4; k++)
                Assert.InRange(mine[k], box[k] - boxSlack, box[k] + boxSlack);
            var segmentation = expected[i].GetProperty("segmentation");
            var (height, width) = Pair(segmentation.GetProperty("size"));
            bool[] reference = new RunLengthMask(height, width, segmentation.GetProperty("counts").Deserialize<int[]>()!).Decode();
            bool[] decoded = mask.Mask.Decode();
            int both = 0, either = 0;
            for (int p = 0; p < reference.Length; p++)
            {
                both += reference[p] && decoded[p] ? 1 : 0;
                either += reference[p] || decoded[p] ? 1 : 0;
            }
            Assert.True(both >= leastIou * either, $"mask {i}: IoU {both / (double)either}");
        }
    }
}
