using Pcrl.Train.Checkpoints;
using Pcrl.Train.Losses;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Parity.Tests;

/// <summary>The training losses against the goldens: values and gradients.</summary>
internal static class LossGoldens
{
    public static void LanguageModelCrossEntropy(GoldenCase golden)
    {
        using var scope = NewDisposeScope();
        var logits = Input(golden, "in.logits");
        var loss = LanguageModelLoss.Mean(logits, tensor(golden.Integers("in.targets")));
        loss.backward();
        golden.AssertOutput("mean", Weights.Floats(loss));
        golden.AssertOutput("grad_of_mean", Weights.Floats(logits.grad!));
    }

    public static void Dice(GoldenCase golden)
    {
        for (int k = 0; k < golden.Config.GetProperty("sub").GetArrayLength(); k++)
        {
            using var scope = NewDisposeScope();
            var z = Input(golden, $"in.{k}.z");
            var p = z.sigmoid();
            p.retain_grad();
            var loss = DiceLoss.Paper(p, Input(golden, $"in.{k}.y").detach());
            loss.backward();
            golden.AssertOutput($"{k}.loss", Weights.Floats(loss));
            golden.AssertOutput($"{k}.grad_p", Weights.Floats(p.grad!));
            golden.AssertOutput($"{k}.grad_z", Weights.Floats(z.grad!));
        }
    }

    public static void Contrastive(GoldenCase golden)
    {
        int k = 0;
        foreach (var sub in golden.Config.GetProperty("sub").EnumerateArray())
        {
            using var scope = NewDisposeScope();
            var (v, w) = (Input(golden, $"in.{k}.v"), Input(golden, $"in.{k}.w"));
            double Number(string name) => sub.GetProperty(name).GetDouble();
            bool cosine = sub.GetProperty("sim").GetString() == "cosine";
            var similarities = (cosine ? ContrastiveLoss.Cosine(v, w) : v.matmul(w.t())) / Number("tau");
            golden.AssertOutput($"{k}.s_v", Weights.Floats(similarities));
            var loss = ContrastiveLoss.Paper(similarities, Number("alpha_v"), Number("alpha_w"));
            loss.backward();
            golden.AssertOutput($"{k}.loss", Weights.Floats(loss));
            golden.AssertOutput($"{k}.grad_v", Weights.Floats(v.grad!));
            golden.AssertOutput($"{k}.grad_w", Weights.Floats(w.grad!));
            k++;
        }
        Assert.True(k > 0);
    }

    /// <summary>In double precision, as the reference computed them.</summary>
    private static Tensor Input(GoldenCase golden, string name) =>
        tensor(golden.Floats(name), ScalarType.Float64).reshape(golden.Shape(name)).requires_grad_();
}
