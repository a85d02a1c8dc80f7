using System.Text.Json;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Models.Clip;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Parity.Tests;

/// <summary>MedCLIP's two sides and its loss against the goldens.</summary>
internal static class ClipGoldens
{
    private static readonly JsonSerializerOptions SnakeCase = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    public static void Text(GoldenCase golden)
    {
        TorchDevice.Configure(threads: 1, seed: 0);
        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        using var model = new MedClipText(golden.Config.GetProperty("bert").Deserialize<BertConfig>(SnakeCase)!, Projection(golden));
        Fill(golden, model, "text_model.");
        var ids = tensor(golden.Integers("in.input_ids")).reshape(golden.Shape("in.input_ids"));
        var mask = tensor(golden.Integers("in.attention_mask")).reshape(golden.Shape("in.attention_mask"));
        var states = model.Encoder.HiddenStates(ids, mask);
        for (int i = 0; i < states.Count; i++)
        {
            if (golden.Has($"out.hidden_states.{i}") || golden.Has($"out.hidden_states.{i}.sample"))
                golden.AssertOutput($"hidden_states.{i}", Weights.Floats(states[i]));
        }
        AssertEmbedding(golden, model.Forward(ids, mask));
    }

    public static void SwinVision(GoldenCase golden)
    {
        TorchDevice.Configure(threads: 1, seed: 0);
        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        using var model = new MedClipSwin(golden.Config.GetProperty("swin").Deserialize<SwinConfig>(SnakeCase)!, Projection(golden));
        Fill(golden, model, "vision_model.");
        var picture = Picture(golden);
        var tokens = model.Encoder.Forward(picture, (i, x) => golden.AssertOutput($"probe.hidden_states.{i}", Weights.Floats(x)));
        golden.AssertOutput("last_hidden_state", Weights.Floats(tokens));
        golden.AssertOutput("pooled", Weights.Floats(tokens.mean([1])));
        AssertEmbedding(golden, model.forward(picture));
    }

    public static void ResNetVision(GoldenCase golden)
    {
        TorchDevice.Configure(threads: 1, seed: 0);
        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        using var model = new MedClipResNet(512);
        model.eval();
        Fill(golden, model, "vision_model.");
        AssertEmbedding(golden, model.forward(Picture(golden)));
    }

    public static void LogitsAndLoss(GoldenCase golden)
    {
        using var scope = NewDisposeScope();
        var image = tensor(golden.Floats("in.image")).reshape(golden.Shape("in.image")).requires_grad_();
        var text = tensor(golden.Floats("in.text")).reshape(golden.Shape("in.text")).requires_grad_();
        var scale = tensor(golden.Config.GetProperty("logit_scale_param").GetSingle()).requires_grad_();
        var logits = ClipLoss.Logits(image, text, scale);
        var loss = ClipLoss.Symmetric(logits);
        loss.backward();
        golden.AssertOutput("logits_per_image", Weights.Floats(logits));
        golden.AssertOutput("loss", Weights.Floats(loss));
        golden.AssertOutput("grad.image", Weights.Floats(image.grad!));
        golden.AssertOutput("grad.text", Weights.Floats(text.grad!));
        golden.AssertOutput("grad.logit_scale", Weights.Floats(scale.grad!));
    }

    private static int Projection(GoldenCase golden) => golden.Config.GetProperty("proj_dim").GetInt32();

    private static void AssertEmbedding(GoldenCase golden, Tensor embedding)
    {
        golden.AssertOutput("embed", Weights.Floats(embedding));
        golden.AssertOutput("embed_normalised", Weights.Floats(nn.functional.normalize(embedding, dim: -1)));
    }

    private static Tensor Picture(GoldenCase golden)
    {
        var filled = golden.Filled("filled_inputs");
        var (shape, values) = filled["input.block"];
        var noise = filled["input.noise"];
        long repeat = noise.Shape[2] / shape[2];
        return tensor(values).reshape(shape).repeat_interleave(repeat, 2).repeat_interleave(repeat, 3) + tensor(noise.Values).reshape(noise.Shape);
    }

    private static void Fill(GoldenCase golden, nn.Module model, string prefix)
    {
        var filled = golden.Filled("weights");
        foreach (var (name, value) in Weights.Of(model))
        {
            Assert.Equal(filled[prefix + name].Shape, value.shape);
            Weights.Set(value, filled[prefix + name].Values);
            filled.Remove(prefix + name);
        }
        Assert.DoesNotContain(filled.Keys, name => !MedClip.Ignorable(name));
    }
}
