using Pcrl.Runtime.Language;
using System.Text.Json;
using Pcrl.Runtime.Vision;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Losses;
using Pcrl.Train.Models;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Parity.Tests;

/// <summary>The training side against the goldens: LLaMA, its adapters and gradients, the ResNet trunk, AdamW.</summary>
internal static class TorchGoldens
{
    public static readonly JsonSerializerOptions SnakeCase = new() { PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    public static void LlamaForward(GoldenCase golden)
    {
        TorchDevice.Configure(threads: 1, seed: 0);
        using var scope = NewDisposeScope();
        using var llama = new Llama(golden.Config.Deserialize<LlmConfig>(SnakeCase)!, null);
        Fill(llama, golden, name => name);
        var tokens = tensor(golden.Integers("in.tokens")).reshape(golden.Shape("in.tokens"));
        var hidden = llama.Hidden(llama.Embed(tokens));
        golden.AssertOutput("last_hidden_state", Weights.Floats(hidden));
        golden.AssertOutput("logits", Weights.Floats(llama.Logits(hidden)));

        var (shape, values) = golden.Filled("filled_inputs")["input.visual_embeds"];
        var visual = tensor(values).reshape(shape).requires_grad_();
        var embeddings = cat([visual, llama.Embed(tokens)], dim: 1);
        hidden = llama.Hidden(embeddings);
        var logits = llama.Logits(hidden);
        long length = logits.shape[1];
        golden.AssertOutput("prefix.logits_first4", Weights.Floats(logits.narrow(1, 0, 4)));
        golden.AssertOutput("prefix.logits_last8", Weights.Floats(logits.narrow(1, length - 8, 8)));
        golden.AssertOutput("prefix.last_hidden_state_last", Weights.Floats(hidden.select(1, length - 1)));

        var loss = ShiftedLoss(logits, golden.Integers("in.prefix.labels"));
        golden.AssertOutput("prefix.loss", Weights.Floats(loss));
        loss.backward();
        golden.AssertOutput("prefix.grad.visual_embeds", Weights.Floats(visual.grad!));
        AssertGradients(golden, llama, "prefix.grad.", name => name);
        AssertGreedy(golden, llama, embeddings.detach());
    }

    /// <summary>Decodes with the key/value cache, so that the cache is checked as well.</summary>
    private static void AssertGreedy(GoldenCase golden, Llama llama, Tensor prompt)
    {
        using var nothing = no_grad();
        using var cache = new KeyValueCache();
        long[] expected = golden.Integers("out.prefix.greedy_ids");
        var next = prompt;
        for (int i = 0; i < expected.Length; i++)
        {
            var hidden = llama.Hidden(next, cache);
            var id = llama.Logits(hidden.select(1, hidden.shape[1] - 1)).argmax(1, keepdim: true);
            Assert.Equal(expected[i], id.item<long>());
            next = llama.Embed(id);
        }
    }

    public static void LlamaLora(GoldenCase golden)
    {
        TorchDevice.Configure(threads: 1, seed: 0);
        using var scope = NewDisposeScope();
        var settings = golden.Config.GetProperty("lora");
        var lora = new LoraConfig
        {
            R = settings.GetProperty("r").GetInt32(),
            LoraAlpha = settings.GetProperty("alpha").GetSingle(),
            LoraDropout = settings.GetProperty("dropout").GetSingle(),
            TargetModules = settings.GetProperty("target_modules").Deserialize<string[]>()!,
        };
        using var llama = new Llama(golden.Config.Deserialize<LlmConfig>(SnakeCase)!, lora);
        Fill(llama, golden, LoraName);
        var tokens = tensor(golden.Integers("in.tokens")).reshape(golden.Shape("in.tokens"));
        long[] labels = golden.Integers("in.labels");
        Tensor Forward() => llama.Logits(llama.Hidden(llama.Embed(tokens)));

        var logits = Forward();
        golden.AssertOutput("logits", Weights.Floats(logits));
        var adapters = llama.named_parameters().Where(p => p.name.Contains("lora_")).ToList();
        foreach (var (name, parameter) in llama.named_parameters())
            parameter.requires_grad = name.Contains("lora_");
        var loss = ShiftedLoss(Forward(), labels);
        golden.AssertOutput("loss", Weights.Floats(loss));
        loss.backward();
        AssertGradients(golden, llama, "grad.", LoraName);

        var projection = (LoraLinear)llama.named_modules().Single(m => m.name == "model.layers.0.self_attn.q_proj").module;
        float[] merged = Weights.Floats(projection.Merged().select(0, 0));
        golden.AssertOutput("merged.model.layers.0.self_attn.q_proj.weight.row0", merged);

        using var optimizer = optim.AdamW(adapters.Select(p => p.parameter), lr: 1e-4, weight_decay: 0.01);
        optimizer.step();
        golden.AssertOutput("loss_after_one_adamw_step_lr1e-4", Weights.Floats(ShiftedLoss(Forward(), labels)));
    }

    public static void ResNetTrunk(GoldenCase golden)
    {
        TorchDevice.Configure(threads: Environment.ProcessorCount, seed: 0);
        using var scope = NewDisposeScope();
        using var nothing = no_grad();
        using var trunk = new ResNet(new VisualConfig());
        trunk.eval();
        Fill(trunk, golden, name => name);
        long[] shape = [.. golden.Config.GetProperty("input_nchw").EnumerateArray().Select(d => d.GetInt64())];
        var block = golden.Filled("filled_inputs")["input.block"];
        var noise = golden.Filled("filled_inputs")["input.noise"];
        long repeat = shape[2] / block.Shape[1];
        var image = tensor(block.Values).reshape(block.Shape).repeat_interleave(repeat, 1).repeat_interleave(repeat, 2)
            + tensor(noise.Values).reshape(noise.Shape);
        var features = trunk.forward(image.unsqueeze(0));
        golden.AssertOutput("probe.layer4", Weights.Floats(features));
        var grid = nn.functional.adaptive_avg_pool2d(features, [14L, 14]); // [1, 2048, 14, 14]
        golden.AssertOutput("grid", Weights.Floats(grid.flatten(2).squeeze(0).t()));
    }

    /// <summary>The optimizer as the fitting uses it: step by step losses and the way the weights have gone in the end.</summary>
    public static void AdamW(GoldenCase golden)
    {
        TorchDevice.Configure(threads: 1, seed: 0);
        using var scope = NewDisposeScope();
        var parameters = golden.Filled("weights").ToDictionary(w => w.Key, w => new TorchSharp.Modules.Parameter(
            tensor(w.Value.Values, ScalarType.Float64).reshape(w.Value.Shape)));
        var initial = parameters.ToDictionary(p => p.Key, p => p.Value.detach().clone());
        var settings = golden.Config.GetProperty("optimizer");
        using var optimizer = optim.AdamW(parameters.Values, settings.GetProperty("lr").GetDouble(),
            settings.GetProperty("betas")[0].GetDouble(), settings.GetProperty("betas")[1].GetDouble(),
            settings.GetProperty("eps").GetDouble(), settings.GetProperty("weight_decay").GetDouble());
        var inputs = tensor(golden.Floats("in.x"), ScalarType.Float64).reshape(golden.Shape("in.x"));
        string lossKind = golden.Config.GetProperty("loss").GetString()!;
        var losses = new List<float>();
        for (int step = 0; step < golden.Config.GetProperty("steps").GetInt32(); step++)
        {
            var outputs = Mlp(golden, parameters, inputs[step]);
            var loss = lossKind switch
            {
                "mse_mean" => nn.functional.mse_loss(outputs, tensor(golden.Floats("in.y"), ScalarType.Float64).reshape(golden.Shape("in.y"))[step]),
                _ => nn.functional.cross_entropy(outputs, tensor(golden.Integers("in.y")).reshape(golden.Shape("in.y"))[step]),
            };
            losses.Add((float)loss.item<double>());
            optimizer.zero_grad();
            loss.backward();
            optimizer.step();
        }
        golden.AssertOutput("loss_per_step", losses.ToArray());
        foreach (var (name, parameter) in parameters)
            golden.AssertOutput($"delta.{name}", Weights.Floats(parameter - initial[name]));
    }

    private static Tensor Mlp(GoldenCase golden, Dictionary<string, TorchSharp.Modules.Parameter> parameters, Tensor x)
    {
        int layers = golden.Config.GetProperty("layers").GetArrayLength() - 1;
        bool relu = golden.Config.GetProperty("activation").GetString() == "relu";
        for (int i = 0; i < layers; i++)
        {
            x = nn.functional.linear(x, parameters[$"l{i}.weight"], parameters[$"l{i}.bias"]);
            if (i == 0 && parameters.TryGetValue("ln.weight", out var gain))
                x = nn.functional.layer_norm(x, [x.shape[^1]], gain, parameters["ln.bias"]);
            if (i < layers - 1)
                x = relu ? nn.functional.relu(x) : nn.functional.gelu(x);
        }
        return x;
    }

    /// <summary>Hugging Face's convention: the logits at t are scored against the label at t + 1.</summary>
    private static Tensor ShiftedLoss(Tensor logits, long[] labels) =>
        LanguageModelLoss.Mean(logits.squeeze(0).narrow(0, 0, labels.Length - 1), tensor(labels[1..]));

    private static string LoraName(string name) => name.Contains("lora_") ? "base_model.model." + name : name;

    private static void Fill(nn.Module module, GoldenCase golden, Func<string, string> goldenName)
    {
        var filled = golden.Filled("weights");
        foreach (var (name, value) in Weights.Of(module))
        {
            Assert.Equal(filled[goldenName(name)].Shape, value.shape);
            Weights.Set(value, filled[goldenName(name)].Values);
        }
        Assert.Equal(filled.Count, Weights.Of(module).Count());
    }

    private static void AssertGradients(GoldenCase golden, nn.Module module, string prefix, Func<string, string> goldenName)
    {
        int checkedGradients = 0;
        foreach (var (name, parameter) in module.named_parameters())
        {
            string output = prefix + goldenName(name);
            if (!golden.Has($"out.{output}") && !golden.Has($"out.{output}.sample"))
                continue;
            golden.AssertOutput(output, Weights.Floats(parameter.grad!));
            checkedGradients++;
        }
        Assert.True(checkedGradients > 0);
    }
}
