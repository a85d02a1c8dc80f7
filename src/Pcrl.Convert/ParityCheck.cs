using System.Numerics.Tensors;
using Pcrl.Kernels;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Runtime.Studies;
using Pcrl.Runtime.Vision;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Models;
using Pcrl.Train.Text;
using static TorchSharp.torch;

namespace Pcrl.Convert;

/// <summary>Runs the trained model and the runtime on the same inputs, from pictures to logits.</summary>
internal static class ParityCheck
{
    private const ulong FirstSeed = 700_000_000; // neither trained nor measured on
    private const int StudyCount = 4;
    private const long MostMapped = 1L << 30; // of a written model that may be larger than memory

    private const string Findings = "左侧基底节区见片状低密度影，边界不清，中线结构居中。";

    /// <summary>Texts for a language model alone: the prompts that it will read, findings, and what else a tokenizer meets.</summary>
    private static readonly string[] Texts =
    [
        PromptTemplate.ReportGeneration.Head + PromptTemplate.ReportGeneration.Tail + Findings,
        TokenizerData.BosToken + "Summarize the following cranial diagnosis in one word: 右侧颞叶见高密度影，周围见水肿带。",
        TokenizerData.BosToken + "A CT image contain Lateral ventricle, 512 × 512, 40/80 HU.",
    ];

    /// <summary>Compares a bundle's files with the run they were made from, on fixed phantom studies.</summary>
    public static ParityFigures Compare(TrainedRun run, LlmType type, Manifest manifest, string folder)
    {
        var (model, prompt, tokenizer) = (run.Model, run.Prompt, run.Tokenizer.Data);
        using var nothing = no_grad();
        using var device = Kernels.Device.Open(DeviceKind.Cpu);
        using var encoder = VisualGguf.Load(Path.Combine(folder, Bundle.VisualFile), manifest.Visual, device);
        using var language = LanguageModel.Load(
            Path.Combine(folder, Bundle.LanguageFile), new LanguageOptions { ContextLength = manifest.ContextLength });
        model.eval();
        var visualFigures = new VisualFigures(0, 1);
        LogitFigures? logitFigures = null;
        for (int i = 0; i < StudyCount; i++)
        {
            using var scope = NewDisposeScope();
            var study = PhantomGenerator.Create(FirstSeed + (ulong)i).Study;
            float[] slices = SliceImages.Prepare(study, SliceSelector.Select(study), manifest.Visual.ImageSize, WindowChoice.Brain);
            var features = model.Features(tensor(slices).view(SliceSelector.Count, manifest.Visual.ImageSize, manifest.Visual.ImageSize));
            var visual = model.VisualTokens(features, 1); // [1, N, D]
            float[] expected = visual.data<float>().ToArray();
            visualFigures = Worse(visualFigures, CompareTokens(expected, encoder.Encode(slices), manifest.Visual.TokenWidth));

            // Both sides read the same prefix from the trained model, so that the figures of the two halves stay apart.
            var start = prompt.Embed(model.Language, visual);
            var text = GreedyDecoder.Decode(model.Language, start, tokenizer.EosId, manifest.ContextLength - (int)start.shape[1] - 1)[0];
            var whole = cat([start, model.Language.Embed(tensor(text.Select(t => (long)t).ToArray()).unsqueeze(0))], dim: 1);
            float[] trained = model.Language.Logits(model.Language.Hidden(whole)).data<float>().ToArray();
            float[] written = Logits(language, manifest.Prompt, expected, [.. text]);
            int skipped = ((int)start.shape[1] - 1) * tokenizer.Count; // positions whose next token nobody asks for
            var figures = LogitFigures.Compare(trained.AsSpan(skipped), written.AsSpan(skipped), tokenizer.Count);
            logitFigures = logitFigures?.With(figures) ?? figures;
        }
        return new ParityFigures(type, visualFigures, logitFigures!);
    }

    /// <summary>Compares a language model that was written alone with its checkpoint, on fixed texts.</summary>
    public static ParityFigures Compare(LlmCheckpoint model, LoraAdapter? adapter, LlmType type, string path)
    {
        var tokenizer = new Tokenizer(model.Tokenizer);
        int[][] texts = [.. Texts.Select(text => tokenizer.EncodePrompt(text).ToArray())];
        var reference = new LlamaReference(model.Config, model.Weights, adapter);
        float[] trained = reference.Logits([.. texts.Select(t => reference.Embed(t))]);
        using var trimming = MappedMemory.KeepBelow(path, MostMapped);
        using var language = LanguageModel.Load(path, new LanguageOptions { LaysOutAnew = false }); // or quantised weights would be in memory twice
        var written = new float[trained.Length];
        int at = 0;
        foreach (int[] text in texts)
        {
            float[] logits = language.EvaluateTokens(text);
            logits.CopyTo(written, at);
            at += logits.Length;
        }
        return new ParityFigures(type, null, LogitFigures.Compare(trained, written, model.Config.VocabSize));
    }

    /// <summary>Compares a bundle's files with the parts they were made from, on one phantom study and fixed findings.</summary>
    public static ParityFigures Compare(ModelParts parts, LlmCheckpoint trainedBase, LlmType type, Manifest manifest, string folder)
    {
        using var nothing = no_grad();
        var study = PhantomGenerator.Create(FirstSeed).Study;
        int size = manifest.Visual.ImageSize;
        float[] slices = SliceImages.Prepare(study, SliceSelector.Select(study), size, WindowChoice.Brain), expected, got;
        using (var model = parts.VisualModel())
        using (NewDisposeScope())
            expected = model.VisualTokens(model.Features(tensor(slices).view(SliceSelector.Count, size, size)), 1).data<float>().ToArray();
        using (var device = Kernels.Device.Open(DeviceKind.Cpu))
        using (var encoder = VisualGguf.Load(Path.Combine(folder, Bundle.VisualFile), manifest.Visual, device))
            got = encoder.Encode(slices);
        var visual = CompareTokens(expected, got, manifest.Visual.TokenWidth);

        var tokenizer = new Tokenizer(trainedBase.Tokenizer);
        var reference = new LlamaReference(trainedBase.Config, trainedBase.Weights, parts.Adapter);
        float[] whole =
        [
            .. reference.Embed(tokenizer.EncodePrompt(manifest.Prompt.Head)), .. expected, .. reference.Embed(tokenizer.EncodePrompt(manifest.Prompt.Tail)),
            .. reference.Embed(tokenizer.Encode(Findings)),
        ];
        float[] trained = reference.Logits([whole]);
        using var trimming = MappedMemory.KeepBelow(Path.Combine(folder, Bundle.LanguageFile), MostMapped);
        using var language = LanguageModel.Load(
            Path.Combine(folder, Bundle.LanguageFile), new LanguageOptions { ContextLength = manifest.ContextLength });
        float[] written = Logits(language, manifest.Prompt, expected, [.. tokenizer.Encode(Findings)]);
        return new ParityFigures(type, visual, LogitFigures.Compare(trained, written, trainedBase.Config.VocabSize));
    }

    /// <summary>The runtime's logits at every position of prompt, visual tokens and text.</summary>
    private static float[] Logits(LanguageModel language, PromptTemplate prompt, float[] visualTokens, int[] text)
    {
        float[] Embed(string part) => language.Embed(language.Tokenize(part, parseSpecial: true));
        return language.EvaluateEmbeddings([.. Embed(prompt.Head), .. visualTokens, .. Embed(prompt.Tail), .. language.Embed(text)]);
    }

    private static VisualFigures CompareTokens(float[] expected, float[] got, int width)
    {
        double scale = Math.Sqrt(TensorPrimitives.Dot<float>(expected, expected) / expected.Length), error = 0, cosine = 1;
        for (int i = 0; i < expected.Length; i++)
        {
            double difference = Math.Abs((double)got[i] - expected[i]) / scale;
            if (!(difference <= error))
                error = difference; // NaN stays
        }
        for (int token = 0; token < expected.Length; token += width)
        {
            double similarity = TensorPrimitives.CosineSimilarity(expected.AsSpan(token, width), got.AsSpan(token, width));
            if (!(similarity >= cosine))
                cosine = similarity;
        }
        return new VisualFigures(error, cosine);
    }

    private static VisualFigures Worse(VisualFigures a, VisualFigures b) =>
        new(double.IsNaN(a.Error) ? a.Error : Math.Max(a.Error, b.Error), double.IsNaN(a.Cosine) ? a.Cosine : Math.Min(a.Cosine, b.Cosine));
}
