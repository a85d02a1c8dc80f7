using Xunit.Abstractions;

namespace Pcrl.Parity.Tests;

/// <summary>
/// Walks the goldens in <c>PCRL_GOLDENS</c>, else the committed ones in <c>tests/goldens</c>: one test per case, named by it.
/// A case whose op no runner knows is skipped, and counted as such.
/// </summary>
public sealed class GoldenTests(ITestOutputHelper output)
{
    /// <summary>Who checks which op. An op may be checked by several implementations, each named.</summary>
    private static readonly Dictionary<string, (string Implementation, Action<GoldenCase> Run)[]> Runners = new()
    {
        ["llama3_forward"] = [("TorchSharp", TorchGoldens.LlamaForward), ("llama.cpp", LanguageGoldens.LlamaForward)],
        ["llama3_lora"] = [("TorchSharp", TorchGoldens.LlamaLora), ("llama.cpp", LanguageGoldens.LlamaLora)],
        ["llama3_nf4"] = [("TorchSharp", Nf4Goldens.Llama)],
        ["nf4_quantise"] = [("C#", Nf4Goldens.Quantise)],
        ["sampling_filter"] = [("Sampler", LanguageGoldens.SamplingFilter)],
        ["resnet101_grid"] = [("TorchSharp", TorchGoldens.ResNetTrunk), ("kernels", KernelGoldens.Trunk)],
        ["conv2d"] = [("kernels", KernelGoldens.Convolution)],
        ["conv_transpose2d"] = [("kernels", KernelGoldens.TransposedConvolution)],
        ["pooling"] = [("kernels", KernelGoldens.Pooling)],
        ["adamw_mlp"] = [("TorchSharp", TorchGoldens.AdamW)],
        ["dice_loss"] = [("TorchSharp", LossGoldens.Dice)],
        ["infonce_exclude_positive"] = [("TorchSharp", LossGoldens.Contrastive)],
        ["lm_cross_entropy"] = [("TorchSharp", LossGoldens.LanguageModelCrossEntropy)],
        ["sam_forward"] = [("TorchSharp", SamGoldens.Forward)],
        ["sam_automatic_masks"] = [("TorchSharp", SamGoldens.AutomaticMasks)],
        ["sam_amg_logic"] = [("TorchSharp", SamGoldens.GeneratorLogic)],
        ["medclip_text"] = [("TorchSharp", ClipGoldens.Text)],
        ["medclip_vision_swin"] = [("TorchSharp", ClipGoldens.SwinVision)],
        ["medclip_vision_resnet50"] = [("TorchSharp", ClipGoldens.ResNetVision)],
        ["medclip_logits_loss"] = [("TorchSharp", ClipGoldens.LogitsAndLoss)],
        ["nms_rle"] = [("C#", MaskGoldens.NmsRle)],
        ["pil_resize"] = [("C#", MaskGoldens.PillowResize)],
        ["jieba_cut"] = [("JiebaSegmenter", JiebaGolden.Run)],
        ["nlg_metrics"] = [("TextMetrics", MetricsGolden.Run)],
    };

    public static IEnumerable<object[]> Cases => Directory.EnumerateDirectories(Root)
        .Where(folder => File.Exists(Path.Combine(folder, "case.json")))
        .Select(folder => new object[] { Path.GetFileName(folder) })
        .OrderBy(row => (string)row[0], StringComparer.Ordinal);

    private static string Root => Environment.GetEnvironmentVariable("PCRL_GOLDENS") is { Length: > 0 } chosen
        ? chosen
        : Path.Combine(AppContext.BaseDirectory, "goldens");

    [SkippableTheory]
    [MemberData(nameof(Cases))]
    public void Golden(string name)
    {
        using var golden = new GoldenCase(Path.Combine(Root, name));
        Skip.IfNot(Runners.TryGetValue(golden.Op, out var runners), $"no implementation of op '{golden.Op}' yet");
        foreach (var (implementation, run) in runners!)
        {
            run(golden);
            output.WriteLine($"{name}: {implementation} agrees");
        }
    }

    [Fact]
    public void The_fill_rule_gives_the_worked_samples()
    {
        Assert.Equal(0x3dbf8d7bu, BitConverter.SingleToUInt32Bits(GoldenCase.Fill(101, "conv1.weight", 1, "lin", 0.14285714285714285, 0)[0]));
        Assert.Equal(0xbe6e4f3fu, BitConverter.SingleToUInt32Bits(GoldenCase.Fill(501, "model.layers.0.self_attn.q_proj.weight", 101, "lin", 0.3247595264191645, 0)[100]));
        Assert.Equal(1.3759884f, GoldenCase.Fill(101, "layer1.0.bn1.running_var", 8, "abs", 0.5, 1)[7]);
    }
}
