using System.Text.Json;
using BatchNorm = Pcrl.Kernels.BatchNorm;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Models;
using Pcrl.Train.Models.Sam;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;
using F = TorchSharp.torch.nn.functional;

namespace Pcrl.Parity.Tests;

/// <summary>The operators that the training models are built from: TorchSharp's as the models call them, and our own norms.</summary>
internal static class OperatorGoldens
{
    public static void Resize(GoldenCase golden)
    {
        using var scope = Begin();
        // In double, as the reference: in float32 the source coordinates alone cost more than the tolerance.
        var picture = tensor(golden.Integers("in.ct").Select(v => (double)v).ToArray()).reshape([1, 1, .. golden.Shape("in.ct")]);
        foreach (var size in golden.Config.GetProperty("ct_sizes").EnumerateArray())
        {
            long[] to = [size[0].GetInt64(), size[1].GetInt64()];
            Check(golden, $"ct.bilinear_{to[0]}x{to[1]}", F.interpolate(picture, to, mode: InterpolationMode.Bilinear, align_corners: false));
            Check(golden, $"ct.nearest_{to[0]}x{to[1]}", F.interpolate(picture, to, mode: InterpolationMode.Nearest));
        }
        for (int k = 0; golden.Has($"in.s.{k}.x"); k++)
        {
            var (x, g) = (Input(golden, $"in.s.{k}.x").requires_grad_(), Input(golden, $"in.s.{k}.g"));
            long[] to = g.shape[2..];
            var y = F.interpolate(x, to, mode: InterpolationMode.Bilinear, align_corners: false);
            Check(golden, $"s.{k}.bilinear", y);
            (y * g).sum().backward();
            Check(golden, $"s.{k}.bilinear_gx", x.grad!);
            Check(golden, $"s.{k}.bilinear_align_corners", F.interpolate(x, to, mode: InterpolationMode.Bilinear, align_corners: true));
            Check(golden, $"s.{k}.bicubic", F.interpolate(x, to, mode: InterpolationMode.Bicubic, align_corners: false));
        }
    }

    public static void Attention(GoldenCase golden)
    {
        using var scope = Begin();
        int k = 0;
        foreach (var sub in golden.Config.GetProperty("sub").EnumerateArray())
        {
            string at = $"in.{k}.";
            var x = Input(golden, at + "x").requires_grad_();
            var memory = golden.Has(at + "kv") ? Input(golden, at + "kv") : x;
            var (projection, outBias) = (Input(golden, at + "in_proj_weight").requires_grad_(), Input(golden, at + "out_proj_bias").requires_grad_());
            var (y, weights) = Attend(x, memory, projection, Input(golden, at + "in_proj_bias"), Input(golden, at + "out_proj_weight"), outBias,
                sub.GetProperty("heads").GetInt32(), Padding(golden, k), sub.GetProperty("causal").GetBoolean());
            Check(golden, $"{k}.y", y);
            Check(golden, $"{k}.attn", weights.mean([1]));
            (y * Input(golden, at + "g")).sum().backward();
            Check(golden, $"{k}.gx", x.grad!);
            Check(golden, $"{k}.g_in_proj_weight", projection.grad!);
            Check(golden, $"{k++}.g_out_proj_bias", outBias.grad!);
        }
        Assert.True(k > 0);
    }

    public static void EncoderLayer(GoldenCase golden)
    {
        using var scope = Begin();
        int k = 0;
        foreach (var sub in golden.Config.GetProperty("sub").EnumerateArray())
        {
            int index = k++;
            var weights = golden.TensorNames.Where(name => name.StartsWith($"in.{index}.", StringComparison.Ordinal) && !name.EndsWith(".key_padding", StringComparison.Ordinal))
                .ToDictionary(name => name[$"in.{index}.".Length..], name => Input(golden, name).requires_grad_());
            var x = weights["x"];
            bool first = sub.GetProperty("norm_first").GetBoolean();
            Tensor Norm(Tensor t, int n) => F.layer_norm(t, [t.shape[^1]], weights[$"norm{n}.weight"], weights[$"norm{n}.bias"]);
            Tensor Self(Tensor t) => Attend(t, t, weights["self_attn.in_proj_weight"], weights["self_attn.in_proj_bias"],
                weights["self_attn.out_proj.weight"], weights["self_attn.out_proj.bias"], sub.GetProperty("heads").GetInt32(), Padding(golden, index), causal: false).Output;
            Tensor Mlp(Tensor t)
            {
                t = F.linear(t, weights["linear1.weight"], weights["linear1.bias"]);
                t = sub.GetProperty("act").GetString() == "relu" ? F.relu(t) : F.gelu(t);
                return F.linear(t, weights["linear2.weight"], weights["linear2.bias"]);
            }
            var y = first ? x + Self(Norm(x, 1)) : Norm(x + Self(x), 1);
            y = first ? y + Mlp(Norm(y, 2)) : Norm(y + Mlp(y), 2);
            Check(golden, $"{index}.y", y);
            (y * weights["g"]).sum().backward();
            Check(golden, $"{index}.gx", x.grad!);
            Check(golden, $"{index}.g_linear1.weight", weights["linear1.weight"].grad!);
            Check(golden, $"{index}.g_in_proj_weight", weights["self_attn.in_proj_weight"].grad!);
            Check(golden, $"{index}.g_norm1.weight", weights["norm1.weight"].grad!);
        }
        Assert.True(k > 0);
    }

    public static void Norms(GoldenCase golden)
    {
        using var scope = Begin();
        foreach (bool training in (bool[])[false, true])
        {
            string mode = training ? "train" : "eval";
            using var norm = nn.BatchNorm2d(golden.Shape("in.bn.weight")[0], golden.Config.GetProperty("bn_eps").GetDouble(), golden.Config.GetProperty("bn_momentum").GetDouble());
            foreach (var (name, value) in Weights.Of(norm))
                Weights.Set(value, golden.Floats($"in.bn.{name}"));
            norm.train(training);
            var x = Input(golden, "in.bn.x").requires_grad_();
            var y = norm.forward(x);
            Check(golden, $"bn.{mode}.y", y);
            (y * Input(golden, "in.bn.g")).sum().backward();
            Check(golden, $"bn.{mode}.gx", x.grad!);
            if (!training)
                continue;
            Check(golden, "bn.train.gweight", norm.weight!.grad!);
            Check(golden, "bn.train.gbias", norm.bias!.grad!);
            Check(golden, "bn.train.running_mean", norm.running_mean!);
            Check(golden, "bn.train.running_var", norm.running_var!);
        }
        FoldedNorm(golden);

        var (tokens, gain, shift) = (Input(golden, "in.ln.x").requires_grad_(), Input(golden, "in.ln.weight").requires_grad_(), Input(golden, "in.ln.bias").requires_grad_());
        var normed = F.layer_norm(tokens, [tokens.shape[^1]], gain, shift, golden.Config.GetProperty("ln_eps").GetDouble());
        Check(golden, "ln.y", normed);
        (normed * Input(golden, "in.ln.g")).sum().backward();
        Check(golden, "ln.gx", tokens.grad!);
        Check(golden, "ln.gweight", gain.grad!);
        Check(golden, "ln.gbias", shift.grad!);

        using var planes = new LayerNorm2d((int)golden.Shape("in.ln2d.weight")[0]);
        foreach (var (name, value) in Weights.Of(planes))
            Weights.Set(value, golden.Floats($"in.ln2d.{name}"));
        Check(golden, "ln2d.y", planes.forward(Input(golden, "in.ln2d.x")));

        using var rms = new RmsNorm((int)golden.Shape("in.rms.weight")[0], golden.Config.GetProperty("rms_eps").GetDouble());
        Weights.Set(rms.parameters().Single(), golden.Floats("in.rms.weight"));
        var states = Input(golden, "in.rms.x").requires_grad_();
        var scaled = rms.forward(states);
        Check(golden, "rms.y", scaled);
        (scaled * Input(golden, "in.rms.g")).sum().backward();
        Check(golden, "rms.gx", states.grad!);
    }

    /// <summary>The statistics folded into a 1×1 convolution that changes nothing, as the converter folds them: the same as BatchNorm at rest.</summary>
    private static void FoldedNorm(GoldenCase golden)
    {
        int channels = (int)golden.Shape("in.bn.weight")[0];
        var identity = new float[channels * channels];
        for (int c = 0; c < channels; c++)
            identity[c * channels + c] = 1;
        var (weight, bias) = BatchNorm.Fold(identity, [], golden.Floats("in.bn.weight"), golden.Floats("in.bn.bias"), golden.Floats("in.bn.running_mean"),
            golden.Floats("in.bn.running_var"), golden.Config.GetProperty("bn_eps").GetDouble());
        Check(golden, "bn.eval.y", F.conv2d(Input(golden, "in.bn.x"), tensor(weight).view(channels, channels, 1, 1), tensor(bias)));
    }

    public static void Activations(GoldenCase golden)
    {
        using var scope = Begin();
        foreach (var (name, function) in new (string, Func<Tensor, Tensor>)[] { ("gelu", F.gelu), ("silu", x => F.silu(x)), ("relu", x => F.relu(x)), ("sigmoid", x => x.sigmoid()) })
        {
            var x = Input(golden, "in.x").requires_grad_();
            var y = function(x);
            Check(golden, name, y);
            y.sum().backward();
            if (golden.Has($"out.{name}_grad"))
                Check(golden, $"{name}_grad", x.grad!);
        }
        var rows = Input(golden, "in.rows");
        Check(golden, "softmax", F.softmax(rows, -1));
        Check(golden, "log_softmax_minus_inf_as_-3.4e38", F.log_softmax(rows, -1).clamp_min(-3.4e38));
    }

    /// <summary>Multi-head attention with packed projections; also the weights that its output follows from, [B, heads, T, S].</summary>
    private static (Tensor Output, Tensor Weights) Attend(
        Tensor x, Tensor memory, Tensor projection, Tensor bias, Tensor outWeight, Tensor outBias, int heads, Tensor? padding, bool causal)
    {
        long width = x.shape[^1];
        Tensor Project(Tensor from, int part) => F.linear(from, projection.narrow(0, part * width, width), bias.narrow(0, part * width, width))
            .view(from.shape[0], from.shape[1], heads, -1).transpose(1, 2);
        var (queries, keys, values) = (Project(x, 0), Project(memory, 1), Project(memory, 2));
        var scores = queries.matmul(keys.transpose(2, 3)) / Math.Sqrt((double)width / heads);
        var mask = padding?.logical_not().view(x.shape[0], 1, 1, -1); // true: may be looked at
        if (mask is not null)
            scores = scores.masked_fill(mask.logical_not(), float.NegativeInfinity);
        if (causal)
            scores = scores.masked_fill(ones(scores.shape[2..], dtype: ScalarType.Bool).triu(1), float.NegativeInfinity);
        var attended = F.scaled_dot_product_attention(queries, keys, values, attn_mask: mask, is_casual: causal);
        return (F.linear(attended.transpose(1, 2).flatten(2), outWeight, outBias), F.softmax(scores, -1));
    }

    private static Tensor? Padding(GoldenCase golden, int sub) => golden.Has($"in.{sub}.key_padding")
        ? tensor(golden.Integers($"in.{sub}.key_padding")).reshape(golden.Shape($"in.{sub}.key_padding")).ne(0) : null;

    private static DisposeScope Begin()
    {
        TorchDevice.Configure(threads: 1, seed: 0);
        return NewDisposeScope();
    }

    private static Tensor Input(GoldenCase golden, string name) => tensor(golden.Floats(name)).reshape(golden.Shape(name));

    private static void Check(GoldenCase golden, string output, Tensor got) => golden.AssertOutput(output, Weights.Floats(got));
}
