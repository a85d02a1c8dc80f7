using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Models;
using Pcrl.Train.Text;
using Pcrl.Train.Torch;
using TorchSharp;
using static TorchSharp.torch;

namespace Pcrl.Train.Fitting;

/// <summary>
/// Teaches the small LLM to write findings from words: the stand-in for what LLaMA-3 brings along, which follows an instruction and reads its
/// context. In place of the visual tokens stand, on neighbouring positions as on neighbouring slices, the mean embeddings of the words
/// of a phrase ("左侧 额叶 高密度"), with gaps and noise. Visual tokens that lie near such words are then understood by the frozen LLM.
/// </summary>
internal sealed class LanguageStage
{
    private readonly PcrlModel _model;
    private readonly Prompt _prompt;
    private readonly int _slots, _slices;
    private readonly (int[][] Findings, int[][] Phrases)[] _texts;

    /// <param name="model">Its LLM is trained, adapters apart.</param>
    /// <param name="prompt">The prompt the visual tokens will stand in.</param>
    /// <param name="tokenizer">Tokenizer of the prompt.</param>
    /// <param name="studies">Their findings and key phrases are used, not their slices.</param>
    /// <param name="slices">Slices of a study: what one sees on slice i stands at i and, where both branches speak, at i + slices.</param>
    public LanguageStage(PcrlModel model, Prompt prompt, Tokenizer tokenizer, IReadOnlyList<TrainingStudy> studies, int slices)
    {
        (_model, _prompt, _slices) = (model, prompt, slices);
        _slots = model.Shape.Visual.TokenCount(slices);
        _texts = [.. studies.Select(study => (
            study.Findings.Select(text => EncodeFindings(tokenizer, text)).ToArray(),
            study.KeyPhrases.Select(phrase => phrase.Split(' ').SelectMany(tokenizer.Encode).ToArray()).ToArray()))];
    }

    /// <summary>Tokens of a findings text as the loss wants them: with the end token.</summary>
    public static int[] EncodeFindings(Tokenizer tokenizer, string findings) => [.. tokenizer.Encode(findings), tokenizer.Data.EosId];

    /// <summary>Trains the base weights of the LLM; returns the loss at the end.</summary>
    public double Run(FitConfig fit, Workers workers, int seed, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        PcrlModel[] models = [_model, .. Enumerable.Range(1, workers.Count - 1).Select(_ => _model.Replicate())];
        Random[] randoms = [.. models.Select((_, i) => new Random(seed + i))];
        try
        {
            var replicas = models.Select(m => m.Language.named_parameters().Where(p => !LoraLinear.IsAdapter(p.name)).Select(p => p.parameter).ToArray()).ToArray();
            return FitLoop.Run("language", fit, workers, replicas, worker =>
            {
                var (llama, random) = (models[worker].Language, randoms[worker]);
                var picks = Enumerable.Range(0, FitLoop.Share(fit, workers)).Select(_ => _texts[random.Next(_texts.Length)]).ToArray();
                var findings = picks.Select(p => p.Findings[random.Next(p.Findings.Length)]).ToArray();
                return _prompt.Loss(llama, Prefix(llama, [.. picks.Select(p => p.Phrases)], random), findings);
            }, progress, cancellation);
        }
        finally
        {
            foreach (var replica in models.Skip(1))
                replica.Dispose();
        }
    }

    /// <summary>What stands in for the visual tokens: [B, slots, D].</summary>
    internal Tensor Prefix(Llama llama, int[][][] phrases, Random random)
    {
        int vocabulary = llama.Config.VocabSize;
        // Every slot is a mixture of token embeddings, so the whole prefix is one product of weights and the embedding table.
        var mixture = new float[phrases.Length * _slots * vocabulary];
        for (int row = 0; row < phrases.Length; row++)
        {
            int longest = _slices / 2;
            foreach (int[] phrase in phrases[row])
            {
                // Lesions come largest first and so fill ever shorter runs of slices, as they do in the pictures.
                int run = random.Next(Math.Min(2, longest), longest + 1), start = random.Next(_slices - run + 1);
                longest = Math.Max(3, run);
                for (int slot = 0; slot < _slots; slot++)
                {
                    int slice = slot % _slices;
                    if (slice < start || slice >= start + run || random.NextSingle() < 0.3f)
                        continue;
                    float share = (0.5f + random.NextSingle()) / phrase.Length;
                    foreach (int token in phrase)
                        mixture[(row * _slots + slot) * vocabulary + token] += share;
                }
            }
        }
        using var scope = NewDisposeScope();
        var words = llama.EmbeddingTable;
        var prefix = tensor(mixture).view(phrases.Length * _slots, vocabulary).matmul(words);
        var noise = TorchDevice.Normal(prefix.shape) * (0.2 * words.detach().std());
        return (prefix + noise).view(phrases.Length, _slots, -1).MoveToOuterDisposeScope();
    }
}
