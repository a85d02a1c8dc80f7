using System.Diagnostics;
using System.Text;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;

namespace Pcrl.Bench;

/// <summary>Writes the same studies in every way, text by text in turn: what slows the machine down slows all.</summary>
/// <param name="bundle">Its prompt and phrases.</param>
/// <param name="model">The LLM.</param>
/// <param name="studies">Visual tokens of each study; texts go through them again and again.</param>
/// <param name="texts">Texts of each way.</param>
/// <param name="drafts">Longest drafts to try; null for the decoder's own choice; the first gives the figures.</param>
/// <param name="sampling">Sampling of the first text; the seed counts up.</param>
/// <param name="processorTime">Processor time in place of wall time.</param>
internal sealed class DecodeRun(Bundle bundle, LanguageModel model, List<float[]> studies, int texts, IReadOnlyList<int?> drafts, SamplingOptions sampling, bool processorTime)
{
    private const int CostRounds = 9, WarmUp = 1, WarmUpTokens = 8;

    /// <summary>Rows of each of many texts.</summary>
    private static readonly int[] WidthsTogether = [1, 2, 3, 4, 6, 8];

    /// <summary>
    /// One text. Wall time is split where the first token is drawn; processor time, which counts all threads, by writing a text of one token too.
    /// </summary>
    private sealed record Text(string Written, int Tokens, int Steps, double First, double Whole)
    {
        public double Decode => Whole - First;

        public double Rate => (Tokens - 1) / Decode;
    }

    private PromptTemplate Prompt => bundle.Manifest.Prompt;

    private SamplingOptions Sampling(int text) => sampling with { Seed = sampling.Seed + (ulong)text };

    private float[] Study(int text) => studies[text % studies.Count];

    public DecodeResult Measure(int parallel, int[] widths, CancellationToken cancellation)
    {
        string[] phrases = bundle.ReadPhrases();
        using var loop = new LlamaLoop(model, Prompt);
        using var plain = new BatchDecoder(model, Prompt, new DecodingOptions { Speculation = false });
        BatchDecoder[] speculative = [.. drafts.Select(most => new BatchDecoder(model, Prompt, new DecodingOptions { Phrases = phrases, MostDrafted = most }))];
        try
        {
            foreach (var decoder in speculative)
                decoder.WaitUntilReady();
            var ways = new Dictionary<string, List<Text>> { ["llama.cpp loop"] = [], ["plain"] = [] };
            foreach (int? most in drafts)
                ways[most is null ? "speculative" : $"speculative, drafts up to {most}"] = [];
            for (int i = -WarmUp; i < texts; i++)
            {
                cancellation.ThrowIfCancellationRequested();
                float[] visual = Study(Math.Max(i, 0));
                var options = i < 0 ? sampling with { MaxTokens = WarmUpTokens } : Sampling(i);
                Text[] row = [Time(loop, visual, options), Time(plain, visual, options), .. speculative.Select(decoder => Time(decoder, visual, options))];
                foreach (var (way, text) in ways.Values.Zip(row))
                {
                    if (i >= 0)
                        way.Add(text);
                }
            }
            List<Text>[] written = [.. ways.Values];
            var (loops, plains, drafted) = (written[0], written[1], written[2]);
            string same = $"Texts with and without speculation: {plains.Zip(drafted).Count(pair => pair.First.Written == pair.Second.Written)} of {texts} the same";
            var (together, alike) = parallel > 1 ? Together(parallel, phrases, drafted, cancellation) : ([], 0);
            double perMinute = 60 / (drafted.Average(text => text.Whole));
            return new DecodeResult(
                drafted.Zip(loops, (a, b) => a.Rate / b.Rate).Median(), plains.Zip(loops, (a, b) => a.Rate / b.Rate).Median(),
                plains.Zip(loops, (a, b) => a.First / b.First).Median(), parallel,
                parallel > 1 ? together[^1].TokensPerSecond / together[0].TokensPerSecond : null, parallel > 1 ? together[^1].TextsPerMinute / perMinute : null,
                [.. ways.Select(way => Row(way.Key, way.Value))], together,
                [.. Costs(model, 1, widths, cancellation), .. parallel > 1 ? Costs(model, parallel, WidthsTogether, cancellation) : []],
                same + (parallel > 1 ? $"; with {parallel} at once: {alike} of {texts}." : "."),
                model.CacheBytes(model.ContextLength) / (double)(1 << 20), drafted[0].Written);
        }
        finally
        {
            foreach (var decoder in speculative)
                decoder.Dispose();
        }
    }

    private List<BatchCost> Costs(LanguageModel of, int at, int[] widths, CancellationToken cancellation) =>
        LlamaLoop.BatchCosts(of, at, Math.Min(128, of.ContextLength / 2), widths, CostRounds, processorTime, cancellation);

    /// <summary>
    /// For models whose texts would take too long: what their batches take, and what speculation would come to with the drafts that this run's LLM accepts.
    /// </summary>
    /// <param name="large">The model that is too slow to write.</param>
    /// <param name="widths">Rows of the batches, the first being 1.</param>
    /// <param name="cancellation">Stops between two batches.</param>
    public List<CombinedCost> Combine(LanguageModel large, int[] widths, CancellationToken cancellation)
    {
        string[] phrases = bundle.ReadPhrases();
        return [.. Costs(large, 1, widths, cancellation).Select(cost =>
        {
            if (cost.Rows == 1)
                return new CombinedCost(cost, 1, 1);
            using var decoder = new BatchDecoder(model, Prompt, new DecodingOptions { Phrases = phrases, MostDrafted = cost.Rows - 1, WholeDrafts = true });
            decoder.WaitUntilReady();
            var written = Enumerable.Range(0, texts).Select(i => Write(decoder, Study(i), Sampling(i)).Summary).ToList();
            double tokens = (double)written.Sum(text => text.GeneratedTokens - 1) / written.Sum(text => text.Steps - 1);
            return new CombinedCost(cost, tokens, tokens / cost.TimesOne);
        })];
    }

    /// <summary>Many texts at once in every way, each way warmed up, and how many came out as when written alone.</summary>
    private (List<TogetherRow> Rows, int Same) Together(int parallel, string[] phrases, List<Text> alone, CancellationToken cancellation)
    {
        int count = Math.Max(texts, 2 * parallel), same = 0;
        var rows = new List<TogetherRow>();
        var batches = new List<(double Llamacpp, double Whole)>();
        void Add(string way, Func<int> write)
        {
            write();
            batches.Clear();
            int tokens = 0;
            double seconds = Seconds(() => tokens = write());
            var row = new TogetherRow(way, 60 * count / seconds, tokens / seconds);
            rows.Add(batches.Count == 0 ? row : row with
            {
                Batches = batches.Count, BatchMs = Quantiles(batches.Select(batch => batch.Whole)), LlamacppShare = batches.Sum(batch => batch.Llamacpp) / batches.Sum(batch => batch.Whole),
            });
        }
        using (var loop = new LlamaLoop(model, Prompt, parallel))
            Add("llama.cpp loop", () => loop.Run([.. Enumerable.Range(0, count).Select(i => (Study(i), Sampling(i)))]));
        foreach (bool speculation in (bool[])[false, true])
        {
            using var many = new BatchDecoder(model, Prompt, new DecodingOptions { Phrases = phrases, Sequences = parallel, Speculation = speculation, MostDrafted = drafts[0] })
            {
                Stepped = batch =>
                {
                    lock (batches) // contexts side by side
                        batches.Add((batch.Llamacpp.TotalMilliseconds, batch.Whole.TotalMilliseconds));
                },
            };
            many.WaitUntilReady();
            Add(speculation ? "speculative" : "plain", () =>
            {
                cancellation.ThrowIfCancellationRequested();
                var written = Task.WhenAll(Enumerable.Range(0, count).Select(i => WriteAsync(many, Study(i), Sampling(i)))).GetAwaiter().GetResult();
                same = alone.Zip(written).Count(pair => pair.First.Written == pair.Second.Text);
                return written.Sum(text => text.Summary.GeneratedTokens);
            });
        }
        return (rows, same);
    }

    private Text Time(LlamaLoop loop, float[] visual, SamplingOptions options)
    {
        int tokens = 0;
        long start = Stopwatch.GetTimestamp(), drawn = 0;
        double whole = Seconds(() => tokens = loop.Run([(visual, options)], () => drawn = drawn == 0 ? Stopwatch.GetTimestamp() : drawn));
        double first = processorTime ? Seconds(() => loop.Run([(visual, options with { MaxTokens = 1 })])) : Stopwatch.GetElapsedTime(start, drawn).TotalSeconds;
        return new Text("", tokens, tokens, first, whole);
    }

    private Text Time(BatchDecoder decoder, float[] visual, SamplingOptions options)
    {
        (string Text, GenerationSummary Summary)? written = null;
        double whole = Seconds(() => written = Write(decoder, visual, options));
        var (text, summary) = written!.Value;
        double first = processorTime ? Seconds(() => Write(decoder, visual, options with { MaxTokens = 1 })) : whole - summary.Decode.TotalSeconds;
        return new Text(text, summary.GeneratedTokens, summary.Steps, first, whole);
    }

    private static (string Text, GenerationSummary Summary) Write(BatchDecoder decoder, float[] visual, SamplingOptions options) =>
        WriteAsync(decoder, visual, options).GetAwaiter().GetResult();

    private static async Task<(string Text, GenerationSummary Summary)> WriteAsync(BatchDecoder decoder, float[] visual, SamplingOptions options)
    {
        var text = new StringBuilder();
        GenerationSummary? summary = null;
        await foreach (var piece in decoder.GenerateAsync(visual, options).ConfigureAwait(false))
        {
            text.Append(piece.Text);
            summary = piece.Summary;
        }
        return (text.ToString(), summary!);
    }

    private double Seconds(Action action)
    {
        var start = Timing.Now(processorTime);
        action();
        return (Timing.Now(processorTime) - start).TotalSeconds;
    }

    private static DecodeRow Row(string way, List<Text> texts)
    {
        int tokens = texts.Sum(t => t.Tokens);
        return new DecodeRow(
            way, texts.Sum(t => t.Tokens - 1) / texts.Sum(t => t.Decode), (double)tokens / texts.Sum(t => t.Steps),
            Quantiles(texts.Where(t => t.Tokens > 1).Select(t => 1000 / t.Rate)), Quantiles(texts.Select(t => 1000 * t.First)), tokens);
    }

    private static double[] Quantiles(IEnumerable<double> values)
    {
        double[] all = [.. values];
        return [all.Quantile(0.5), all.Quantile(0.95), all.Quantile(0.99)];
    }
}
