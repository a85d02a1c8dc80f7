using System.Globalization;
using System.Text;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;

namespace Pcrl.Bench;

/// <summary>One way of decoding, over all its texts.</summary>
/// <param name="Way">Its name.</param>
/// <param name="TokensPerSecond">Behind the first token, of all texts together.</param>
/// <param name="Acceptance">Tokens per batch.</param>
/// <param name="TokenMs">Milliseconds of a token, p50, p95 and p99 over the texts' means.</param>
/// <param name="PrefillMs">Milliseconds to the first token, p50, p95, p99.</param>
/// <param name="Tokens">Tokens written.</param>
internal sealed record DecodeRow(string Way, double TokensPerSecond, double Acceptance, double[] TokenMs, double[] PrefillMs, int Tokens);

/// <summary>What a batch behind a report costs.</summary>
internal sealed record BatchCost(int Rows, double Milliseconds, double TimesOne);

/// <summary>All figures of one run.</summary>
internal sealed record DecodeResult(
    double SpeedupVsLlamacpp, double PlainVsLlamacpp, double FirstTokenVsPrefill, double? ParallelVsOneByOne,
    IReadOnlyList<DecodeRow> Rows, IReadOnlyList<BatchCost> Batches, string SameTexts, double CacheMib)
{
    public string Markdown
    {
        get
        {
            var text = new StringBuilder();
            string Three(double[] values) => string.Join(" / ", values.Select(v => v.ToString("0.00", CultureInfo.InvariantCulture)));
            text.AppendLine("| way | tokens/s | tokens a batch | ms a token p50/p95/p99 | ms to first token p50/p95/p99 | tokens |\n|---|---:|---:|---:|---:|---:|");
            foreach (var row in Rows)
                text.AppendLine(CultureInfo.InvariantCulture, $"| {row.Way} | {row.TokensPerSecond:0.0} | {row.Acceptance:0.00} | {Three(row.TokenMs)} | {Three(row.PrefillMs)} | {row.Tokens} |");
            text.AppendLine(CultureInfo.InvariantCulture, $"\nSpeculation is {SpeedupVsLlamacpp:0.00} times as fast as llama.cpp's loop, the plain path {PlainVsLlamacpp:0.000} times (medians over the texts).");
            text.AppendLine(CultureInfo.InvariantCulture, $"First token after {FirstTokenVsPrefill:0.000} of the loop's time. Keys and values: {CacheMib:0.0} MiB a text. {SameTexts}");
            if (ParallelVsOneByOne is { } ratio)
                text.AppendLine(CultureInfo.InvariantCulture, $"Many at once: {ratio:0.00} times the texts per minute of one after another.");
            text.AppendLine("\n| rows of a batch | ms | times one row |\n|---:|---:|---:|");
            foreach (var batch in Batches)
                text.AppendLine(CultureInfo.InvariantCulture, $"| {batch.Rows} | {batch.Milliseconds:0.000} | {batch.TimesOne:0.00} |");
            return text.ToString();
        }
    }
}

/// <summary>Writes the same studies in every way, text by text in turn: what slows the machine down slows all.</summary>
internal sealed class DecodeRun(Bundle bundle, LanguageModel model, List<float[]> studies, int texts, SamplingOptions sampling, bool processorTime)
{
    private const int CostRounds = 5, WarmUp = 1, WarmUpTokens = 8;

    /// <summary>One text. The time of its tokens is that of the whole text less that of a text of one token, in every way alike.</summary>
    private sealed record Text(string Written, int Tokens, int Steps, double First, double Whole)
    {
        public double Decode => Whole - First;

        public double Rate => (Tokens - 1) / Decode;
    }

    private SamplingOptions Sampling(int text) => sampling with { Seed = sampling.Seed + (ulong)text };

    public DecodeResult Measure(int parallel, int[] widths, CancellationToken cancellation)
    {
        var prompt = bundle.Manifest.Prompt;
        string[] phrases = bundle.ReadPhrases();
        using var plain = new BatchDecoder(model, prompt, new DecodingOptions { Speculation = false });
        using var speculative = new BatchDecoder(model, prompt, new DecodingOptions { Phrases = phrases });
        plain.WaitUntilReady();
        speculative.WaitUntilReady();
        var ways = new Dictionary<string, List<Text>> { ["llama.cpp loop"] = [], ["plain"] = [], ["speculative"] = [] };
        for (int i = -WarmUp; i < texts; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            float[] visual = studies[Math.Max(i, 0) % studies.Count];
            var options = i < 0 ? sampling with { MaxTokens = WarmUpTokens } : Sampling(i);
            using var loop = new LlamaLoop(model, prompt, options);
            Text[] row = [Time(options, most => loop.Run(visual, most)), Time(plain, visual, options), Time(speculative, visual, options)];
            foreach (var (way, text) in ways.Values.Zip(row))
            {
                if (i >= 0)
                    way.Add(text);
            }
        }
        var (loops, plains, drafted) = (ways["llama.cpp loop"], ways["plain"], ways["speculative"]);
        double? together = null;
        int same = plains.Zip(drafted).Count(pair => pair.First.Written == pair.Second.Written), alike = 0;
        if (parallel > 1)
            (together, alike) = Together(parallel, phrases, speculative, drafted, cancellation);
        var cost = new List<BatchCost>();
        double one = 0;
        foreach (int width in widths)
        {
            cancellation.ThrowIfCancellationRequested();
            double seconds = LlamaLoop.BatchSeconds(model, Math.Min(128, model.ContextLength / 2), width, CostRounds, processorTime);
            one = one == 0 ? seconds : one;
            cost.Add(new BatchCost(width, seconds * 1000, seconds / one));
        }
        return new DecodeResult(
            Median(drafted.Zip(loops, (a, b) => a.Rate / b.Rate)), Median(plains.Zip(loops, (a, b) => a.Rate / b.Rate)),
            Median(plains.Zip(loops, (a, b) => a.First / b.First)), together,
            [.. ways.Select(way => Row(way.Key, way.Value))], cost,
            $"Texts with and without speculation: {same} of {texts} the same" + (parallel > 1 ? $"; with {parallel} at once: {alike} of {texts}." : "."),
            model.CacheBytes(model.ContextLength) / (double)(1 << 20));
    }

    /// <summary>The same texts at once and one after another: ratio of their rates, and how many came out the same.</summary>
    private (double Ratio, int Same) Together(int parallel, string[] phrases, BatchDecoder single, List<Text> expected, CancellationToken cancellation)
    {
        using var many = new BatchDecoder(model, bundle.Manifest.Prompt, new DecodingOptions { Phrases = phrases, Sequences = parallel });
        many.WaitUntilReady();
        int count = Math.Max(texts, 2 * parallel);
        var written = new string[count];
        double apart = Seconds(() =>
        {
            for (int i = 0; i < count; i++)
                Write(single, studies[i % studies.Count], Sampling(i));
        });
        double together = Seconds(() => Task.WhenAll(Enumerable.Range(0, count).Select(async i =>
        {
            var text = new StringBuilder();
            await foreach (var piece in many.GenerateAsync(studies[i % studies.Count], Sampling(i), cancellation))
                text.Append(piece.Text);
            written[i] = text.ToString();
        })).Wait(cancellation));
        return (apart / together, expected.Zip(written).Count(pair => pair.First.Written == pair.Second));
    }

    private Text Time(SamplingOptions options, Func<int, int> write)
    {
        double first = Seconds(() => write(1));
        int tokens = 0;
        double whole = Seconds(() => tokens = write(options.MaxTokens));
        return new Text("", tokens, tokens, first, whole);
    }

    private Text Time(BatchDecoder decoder, float[] visual, SamplingOptions options)
    {
        (string Text, GenerationSummary? Summary) written = ("", null);
        var timed = Time(options, most =>
        {
            written = Write(decoder, visual, options with { MaxTokens = most });
            return written.Summary!.GeneratedTokens;
        });
        return timed with { Written = written.Text, Steps = written.Summary!.Steps };
    }

    private static (string Text, GenerationSummary Summary) Write(BatchDecoder decoder, float[] visual, SamplingOptions options)
    {
        var text = new StringBuilder();
        GenerationSummary? summary = null;
        foreach (var piece in decoder.GenerateAsync(visual, options).ToBlockingEnumerable())
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
            Quantiles(texts.Select(t => 1000 * t.Decode / (t.Tokens - 1))), Quantiles(texts.Select(t => 1000 * t.First)), tokens);
    }

    private static double Median(IEnumerable<double> values) => Quantiles(values)[0];

    private static double[] Quantiles(IEnumerable<double> values)
    {
        double[] sorted = [.. values.Order()];
        return [.. new[] { 0.5, 0.95, 0.99 }.Select(q => sorted[Math.Min((int)(q * sorted.Length), sorted.Length - 1)])];
    }
}
