using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Nodes;
using Pcrl.Runtime;
using Pcrl.Train.Fitting;
using Pcrl.Train.Models;
using Pcrl.Train.Quantisation;
using Pcrl.Train.Text;

namespace Pcrl.Train.Checkpoints;

/// <summary>
/// A run on disk. This is the one description of its format:
/// <list type="table">
/// <item><term><c>config.json</c></term><description>the whole <see cref="RunConfig"/></description></item>
/// <item><term><c>tokenizer.json</c></term><description><see cref="TokenizerData"/>, Hugging Face's layout</description></item>
/// <item><term><c>model.safetensors</c></term><description>F32: <c>trunk.*</c>, <c>local_res.*</c>, <c>local_visual_projector.*</c>,
/// <c>global_visual_projector.{0,1}.*</c> with BatchNorm unfolded, what only training needs (<c>local_seg.*</c>, the alignment heads and their scales, a text model), and <c>language_model.</c> + Hugging Face's names of the LLaMA base weights, unless those are compressed
/// (<c>language_base</c>): then they were brought along, never change, and are read from <c>pretrained.language</c> again</description></item>
/// <item><term><c>adapter_model.safetensors</c>, <c>adapter_config.json</c></term><description>LoRA in PEFT's form:
/// <c>base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight</c>, …; the weight it adds is (α/r)·B·A</description></item>
/// <item><term><c>phrases.txt</c></term><description>findings it was trained on, one text a line, for the bundle's drafter; may be missing</description></item>
/// <item><term><c>metrics.json</c></term><description>figures, seeds, timings, data and commit; written last, so a run with it is whole</description></item>
/// <item><term><c>curves.csv</c>, <c>curves.png</c>, <c>samples.txt</c></term><description>how the joint fit went (<see cref="FitHistory"/>)</description></item>
/// <item><term><c>stages/</c></term><description>results of finished stages and the checkpoint of the joint fit (<see cref="FitCheckpoint"/>), by which an
/// interrupted run goes on; may be deleted afterwards</description></item>
/// </list>
/// </summary>
public sealed class RunFolder
{
    private const string AdapterPrefix = "base_model.model.", LanguagePrefix = "language_model.";

    private static readonly JsonSerializerOptions Json = new()
    {
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
    };

    /// <summary>Names a folder; nothing is read or made yet.</summary>
    public RunFolder(string path) => Path = path;

    /// <summary>The folder as the user named it.</summary>
    public string Path { get; }

    /// <summary>Path of <c>config.json</c>.</summary>
    public string ConfigPath => At("config.json");

    /// <summary>Path of <c>tokenizer.json</c>.</summary>
    public string TokenizerPath => At("tokenizer.json");

    /// <summary>Path of <c>model.safetensors</c>.</summary>
    public string ModelPath => At("model.safetensors");

    /// <summary>Path of <c>adapter_model.safetensors</c>.</summary>
    public string AdapterPath => At("adapter_model.safetensors");

    /// <summary>Path of <c>adapter_config.json</c>.</summary>
    public string AdapterConfigPath => At("adapter_config.json");

    /// <summary>Path of <c>phrases.txt</c>.</summary>
    public string PhrasesPath => At(Runtime.Bundles.Bundle.PhrasesFile);

    /// <summary>Path of <c>metrics.json</c>.</summary>
    public string MetricsPath => At("metrics.json");

    /// <summary>Path of the joint fit's checkpoint.</summary>
    public string CheckpointPath => Stage("fit.checkpoint.safetensors");

    /// <summary>Path of a file below <c>stages/</c>.</summary>
    public string Stage(string file) => System.IO.Path.Combine(Path, "stages", file);

    private string At(string file) => System.IO.Path.Combine(Path, file);

    /// <summary>Makes the folder where it is missing.</summary>
    /// <exception cref="InputException">It cannot be made.</exception>
    public void Create() => OutputFolder.Make(Path, "stages");

    /// <summary>Writes configuration, tokenizer, weights and adapters.</summary>
    /// <exception cref="InputException">The folder cannot be written.</exception>
    public void Save(RunConfig config, TokenizerData tokenizer, PcrlModel model)
    {
        AtomicFile.WriteText(ConfigPath, config.ToJson());
        tokenizer.Save(TokenizerPath);
        var weights = Weights.Of(model).ToList();
        Weights.Save(ModelPath, weights.Where(w => IsInModelFile(config, w.Name)));
        Weights.Save(AdapterPath, weights.Where(w => LoraLinear.IsAdapter(w.Name)).Select(w => (NameInFile(w.Name), w.Value)));
        AtomicFile.WriteText(AdapterConfigPath, new JsonObject
        {
            ["peft_type"] = "LORA",
            ["task_type"] = "CAUSAL_LM",
            ["base_model_name_or_path"] = config.Name,
            ["r"] = config.Lora.R,
            ["lora_alpha"] = config.Lora.LoraAlpha,
            ["lora_dropout"] = config.Lora.LoraDropout,
            ["target_modules"] = new JsonArray([.. config.Lora.TargetModules.Select(m => (JsonNode)m)]),
            ["bias"] = "none",
            ["fan_in_fan_out"] = false,
            ["inference_mode"] = true,
        }.ToJsonString(Json));
    }

    /// <summary>Writes <c>phrases.txt</c>.</summary>
    /// <exception cref="InputException">The folder cannot be written.</exception>
    public void SavePhrases(IEnumerable<string> findings) => AtomicFile.WriteText(PhrasesPath, string.Join('\n', findings));

    /// <summary>Writes <c>metrics.json</c>.</summary>
    /// <exception cref="InputException">The folder cannot be written.</exception>
    public void SaveMetrics(JsonObject metrics) => AtomicFile.WriteText(MetricsPath, metrics.ToJsonString(Json));

    /// <summary>Writes curves and sample reports of a joint fit.</summary>
    /// <exception cref="InputException">The folder cannot be written.</exception>
    public void SaveHistory(FitHistory history)
    {
        AtomicFile.WriteText(At("curves.csv"), history.ToCsv());
        AtomicFile.WriteText(At("samples.txt"), history.ToSamples());
        FitCurves.Write(history, At("curves.png"));
    }

    /// <summary>Reads <c>metrics.json</c>.</summary>
    /// <exception cref="InputException">Missing (the run is not finished) or not JSON.</exception>
    public JsonObject ReadMetrics()
    {
        try
        {
            return JsonNode.Parse(File.ReadAllBytes(MetricsPath))?.AsObject() ?? throw new InputException(MetricsPath, "holds no metrics");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new InputException(MetricsPath, $"cannot be read: is the run finished? ({e.Message})", e);
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException)
        {
            throw new InputException(MetricsPath, "is not a JSON object", e);
        }
    }

    /// <summary>Opens a run for use: the model in evaluation mode, its weights bit for bit those that were saved.</summary>
    /// <exception cref="InputException">Something is missing, unreadable or does not fit together.</exception>
    public TrainedRun Load()
    {
        var config = RunConfig.Load(ConfigPath, []);
        var tokenizer = new Tokenizer(TokenizerData.Load(TokenizerPath));
        var model = new PcrlModel(config.Shape(tokenizer.Data));
        try
        {
            var weights = Weights.Of(model).ToList();
            using (var file = SafetensorsFile.Open(ModelPath))
                Weights.Load(file, weights.Where(w => IsInModelFile(config, w.Name)));
            using (var file = SafetensorsFile.Open(AdapterPath))
                Weights.Load(file, weights.Where(w => LoraLinear.IsAdapter(w.Name)), NameInFile);
            if (config.LanguageBase != BaseWeights.Float32)
            {
                using var brought = Checkpoint.Open(config.Pretrained.Language ?? throw new InputException(ConfigPath, "does not say where the LLM is (pretrained.language)"));
                model.Language.LoadBase(brought);
            }
        }
        catch
        {
            model.Dispose();
            throw;
        }
        model.eval();
        return new TrainedRun(config, tokenizer, model, new Prompt(config.Prompt, tokenizer), File.Exists(PhrasesPath) ? PhrasesPath : null);
    }

    /// <summary>What the joint fit makes: branches, heads and adapters, with their BatchNorm statistics.</summary>
    internal static IEnumerable<(string Name, TorchSharp.torch.Tensor Value)> Fitted(PcrlModel model) => Weights.Of(model)
        .Where(w => LoraLinear.IsAdapter(w.Name) || w.Name.StartsWith("local_", StringComparison.Ordinal) || w.Name.StartsWith("global_", StringComparison.Ordinal));

    /// <summary>A weight's name in files: PEFT's for adapters, the model's own for the rest.</summary>
    internal static string NameInFile(string name) => LoraLinear.IsAdapter(name) ? AdapterPrefix + name[LanguagePrefix.Length..] : name;

    private static bool IsInModelFile(RunConfig config, string name) =>
        !LoraLinear.IsAdapter(name) && (config.LanguageBase == BaseWeights.Float32 || !name.StartsWith(LanguagePrefix, StringComparison.Ordinal));
}

/// <summary>A model with everything around it.</summary>
/// <param name="Config">The run's configuration.</param>
/// <param name="Tokenizer">Its tokenizer.</param>
/// <param name="Model">Its weights.</param>
/// <param name="Prompt">Its prompt.</param>
/// <param name="PhrasesPath">File of findings it was trained on, or null.</param>
public sealed record TrainedRun(RunConfig Config, Tokenizer Tokenizer, PcrlModel Model, Prompt Prompt, string? PhrasesPath = null) : IDisposable
{
    /// <inheritdoc/>
    public void Dispose() => Model.Dispose();
}
