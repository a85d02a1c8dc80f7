using System.Text.Json;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Clues;
using Pcrl.Train.Models.Sam;
using static TorchSharp.torch;

namespace Pcrl.Parity.Tests;

/// <summary>Boxes, suppression, run lengths and Pillow's resizing against the goldens.</summary>
internal static class MaskGoldens
{
    public static void NmsRle(GoldenCase golden)
    {
        float[] boxes = golden.Floats("in.boxes");
        Assert.Equal(golden.Integers("out.keep"), MaskGeometry.Suppress(boxes, golden.Floats("in.scores"),
            golden.Config.GetProperty("iou_threshold").GetDouble()).Select(i => (long)i));
        int count = boxes.Length / 4;
        var overlaps = new float[count * count];
        for (int i = 0; i < overlaps.Length; i++)
            overlaps[i] = MaskGeometry.BoxIou(boxes.AsSpan(i / count * 4, 4), boxes.AsSpan(i % count * 4, 4));
        golden.AssertOutput("box_iou", overlaps);

        using var scope = NewDisposeScope();
        long[] shape = golden.Shape("in.mask_logits");
        int height = (int)shape[1], width = (int)shape[2];
        var logits = tensor(golden.Floats("in.mask_logits")).reshape(shape[0], height * width);
        float[] stability = Weights.Floats(SamMaskGenerator.Stability(logits, 1));
        golden.AssertOutput("stability", [.. stability.Select(s => float.IsNaN(s) ? -1 : s)]);
        using var json = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(golden.Folder, "rle.json")));
        var foundBoxes = new List<long>();
        for (int m = 0; m < shape[0]; m++)
        {
            bool[] mask = logits[m].gt(0).data<bool>().ToArray();
            var encoded = RunLengthMask.Encode(mask, height, width);
            Assert.Equal(json.RootElement[m].GetProperty("counts").Deserialize<int[]>(), encoded.Counts);
            Assert.Equal(json.RootElement[m].GetProperty("area").GetInt32(), encoded.Area);
            Assert.Equal(mask, encoded.Decode());
            var box = MaskGeometry.Box(mask, height, width);
            foundBoxes.AddRange([box.Left, box.Top, box.Right, box.Bottom]);
        }
        Assert.Equal(golden.Integers("out.mask_boxes"), foundBoxes);
        golden.AssertOutput("point_grid_8", [.. SamGrid.Points(8).Select(v => (float)v)]);
        var crops = SamGrid.Crops(120, 161, 2, new SamGeneratorConfig().CropOverlapRatio);
        Assert.Equal(golden.Integers("out.crop_boxes_120x161_2layers"),
            crops.SelectMany(c => new long[] { c.Box.Left, c.Box.Top, c.Box.Right, c.Box.Bottom }));
        Assert.Equal(golden.Integers("out.crop_layers"), crops.Select(c => (long)c.Layer));
    }

    public static void PillowResize(GoldenCase golden)
    {
        var cases = golden.Config.GetProperty("sub").EnumerateArray().ToList();
        for (int k = 0; k < cases.Count; k++)
        {
            string input = golden.Has($"in.{k}.rgb") ? $"in.{k}.rgb" : $"in.{k}.gray";
            int height = cases[k][0].GetInt32(), width = cases[k][1].GetInt32();
            int channels = golden.Shape(input).Length == 3 ? 3 : 1;
            var (newHeight, newWidth) = PictureResize.Fit(height, width, cases[k][2].GetInt32());
            byte[] resized = PictureResize.Resize([.. golden.Integers(input).Select(v => (byte)v)], height, width, channels, newHeight, newWidth);
            if (golden.Has($"out.{k}"))
            {
                Assert.Equal([newHeight, newWidth], golden.Shape($"out.{k}")[..2].Select(d => (int)d));
                Assert.Equal(golden.Integers($"out.{k}"), resized.Select(b => (long)b));
                continue;
            }
            var sampling = golden.Json.GetProperty("sampled_outputs").GetProperty($"{k}");
            Assert.Equal(sampling.GetProperty("sum").GetDouble(), resized.Sum(b => (double)b));
            int start = sampling.GetProperty("start").GetInt32(), stride = sampling.GetProperty("stride").GetInt32();
            long[] expected = golden.Integers($"out.{k}.sample");
            Assert.Equal(expected, expected.Select((_, i) => (long)resized[start + i * stride]));
        }
    }
}
