using System.Text.Json.Nodes;
using Pcrl.Kernels;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Runtime.Studies;
using Pcrl.Runtime.Vision;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Models;
using static TorchSharp.torch;

namespace Pcrl.Convert;

/// <summary>How far the runtime, opening the written files, is from the trained model on fixed phantom studies.</summary>
/// <param name="VisualTokenError">Largest |difference| of a visual token's element, over the root mean square of all.</param>
/// <param name="LogitError">Largest |difference| of a next-token logit over prompt and greedy text.</param>
/// <param name="TopTokenAgreement">Share of text positions at which both rank the same token first.</param>
/// <param name="Studies">Number of studies compared.</param>
public sealed record ParityFigures(double VisualTokenError, double LogitError, double TopTokenAgreement, int Studies)
{
    // Both sides compute in float32, summing in different orders; observed differences are a hundred times smaller.
    private const double LargestVisualTokenError = 2e-4, LargestLogitError = 1e-3;

    /// <summary>Refuses a bundle that differs by more than float noise.</summary>
    /// <exception cref="InputException">It does.</exception>
    public void ThrowIfApart(string bundle)
    {
        // Written so that NaN fails.
        if (!(VisualTokenError <= LargestVisualTokenError && LogitError <= LargestLogitError && TopTokenAgreement == 1))
        {
            throw new InputException(bundle, FormattableString.Invariant(
                $"runtime and trained model part: visual tokens by {VisualTokenError:g3}, logits by {LogitError:g3}, {TopTokenAgreement:p1} of the first choices agree"));
        }
    }

    /// <summary>For the manifest.</summary>
    public JsonObject ToJson() => new()
    {
        ["visual_token_error"] = VisualTokenError,
        ["logit_error"] = LogitError,
        ["top_token_agreement"] = TopTokenAgreement,
        ["studies"] = Studies,
    };
}

/// <summary>Runs the trained model and the runtime on the same studies, from pictures to logits.</summary>
internal static class ParityCheck
{
    private const ulong FirstSeed = 700_000_000; // neither trained nor measured on
    private const int StudyCount = 4;

    public static ParityFigures Compare(TrainedRun run, Manifest manifest, string folder)
    {
        var (model, prompt, tokenizer) = (run.Model, run.Prompt, run.Tokenizer.Data);
        using var nothing = no_grad();
        using var device = Kernels.Device.Open(DeviceKind.Cpu);
        using var encoder = VisualGguf.Load(Path.Combine(folder, Bundle.VisualFile), manifest.Visual, device);
        using var language = LanguageModel.Load(
            Path.Combine(folder, Bundle.LanguageFile), new LanguageOptions { ContextLength = manifest.ContextLength });
        model.eval();
        double visualError = 0, logitError = 0;
        int agreeing = 0, positions = 0;
        for (int i = 0; i < StudyCount; i++)
        {
            using var scope = NewDisposeScope();
            var study = PhantomGenerator.Create(FirstSeed + (ulong)i).Study;
            float[] slices = SliceImages.Prepare(study, SliceSelector.Select(study), manifest.Visual.ImageSize, WindowChoice.Brain);
            var features = model.Features(tensor(slices).view(SliceSelector.Count, manifest.Visual.ImageSize, manifest.Visual.ImageSize));
            var visual = model.VisualTokens(features, 1); // [1, N, D]
            float[] expected = visual.data<float>().ToArray();
            float[] got = encoder.Encode(slices);
            visualError = Math.Max(visualError, LargestDifference(expected, got) / RootMeanSquare(expected));

            // Both sides read the same prefix from the trained model, so that the figures of the two halves stay apart.
            var start = prompt.Embed(model.Language, visual);
            var text = GreedyDecoder.Decode(model.Language, start, tokenizer.EosId, manifest.ContextLength - (int)start.shape[1] - 1)[0];
            var whole = cat([start, model.Language.Embed(tensor(text.Select(t => (long)t).ToArray()).unsqueeze(0))], dim: 1);
            float[] trained = model.Language.Logits(model.Language.Hidden(whole)).data<float>().ToArray();
            float[] Embedded(string part) => language.Embed(language.Tokenize(part, parseSpecial: true));
            float[] head = [.. Embedded(manifest.Prompt.Head), .. expected, .. Embedded(manifest.Prompt.Tail)];
            float[] bundled = language.EvaluateEmbeddings([.. head, .. language.Embed([.. text])]);
            logitError = Math.Max(logitError, LargestDifference(trained, bundled));
            for (int p = (int)start.shape[1] - 1; p < whole.shape[1]; p++, positions++)
            {
                if (First(trained, p, tokenizer.Count) == First(bundled, p, tokenizer.Count))
                    agreeing++;
            }
        }
        return new ParityFigures(visualError, logitError, (double)agreeing / positions, StudyCount);
    }

    private static int First(float[] logits, int position, int vocabulary) =>
        System.Numerics.Tensors.TensorPrimitives.IndexOfMax<float>(logits.AsSpan(position * vocabulary, vocabulary));

    private static double LargestDifference(float[] a, float[] b)
    {
        if (a.Length != b.Length)
            throw new InvalidOperationException($"{b.Length} values instead of {a.Length}");
        double largest = 0;
        for (int i = 0; i < a.Length; i++)
        {
            double difference = Math.Abs((double)a[i] - b[i]);
            if (!(difference <= largest))
                largest = difference; // NaN stays
        }
        return largest;
    }

    private static double RootMeanSquare(float[] values) => Math.Sqrt(values.Sum(v => (double)v * v) / values.Length);
}
