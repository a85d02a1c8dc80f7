using System.Globalization;
using System.Text;

namespace Pcrl.Bench;

/// <summary>One way of decoding, one text after another.</summary>
/// <param name="Way">Its name.</param>
/// <param name="TokensPerSecond">Behind the first token, of all texts together.</param>
/// <param name="Acceptance">Tokens per batch.</param>
/// <param name="TokenMs">Milliseconds a token behind the first, on the average of a text, p50, p95, p99 over the texts.</param>
/// <param name="FirstTokenMs">Milliseconds to the first token, p50, p95, p99 over the texts.</param>
/// <param name="Tokens">Tokens written.</param>
internal sealed record DecodeRow(string Way, double TokensPerSecond, double Acceptance, double[] TokenMs, double[] FirstTokenMs, int Tokens);

/// <summary>One way of decoding, many texts at once, their prompts included.</summary>
/// <param name="Way">Its name.</param>
/// <param name="TextsPerMinute">Texts per minute.</param>
/// <param name="TokensPerSecond">Tokens of all texts per second.</param>
/// <param name="Batches">Batches; null for llama.cpp's loop.</param>
/// <param name="BatchMs">Milliseconds of a batch, p50, p95, p99; null for llama.cpp's loop.</param>
/// <param name="LlamacppShare">What of all batches' time llama.cpp has; null for its loop.</param>
internal sealed record TogetherRow(string Way, double TextsPerMinute, double TokensPerSecond, int? Batches = null, double[]? BatchMs = null, double? LlamacppShare = null);

/// <summary>What a batch behind reports costs.</summary>
/// <param name="Texts">Texts in it.</param>
/// <param name="Rows">Rows of each of them.</param>
/// <param name="Milliseconds">With our kernels, where the model has weights for them.</param>
/// <param name="LlamacppMilliseconds">With llama.cpp's kernels.</param>
/// <param name="TimesOne">Ours against llama.cpp's batch of one row of each.</param>
internal sealed record BatchCost(int Texts, int Rows, double Milliseconds, double LlamacppMilliseconds, double TimesOne);

/// <summary>What a batch costs one model, and what it would make with the acceptance of another.</summary>
/// <param name="Batch">The cost.</param>
/// <param name="TokensABatch">Tokens that the other model draws from a batch of these rows, the whole draft in it.</param>
/// <param name="Speedup">Tokens per time against batches of one row.</param>
internal sealed record CombinedCost(BatchCost Batch, double TokensABatch, double Speedup)
{
    public static string Markdown(IEnumerable<CombinedCost> costs) =>
        "| rows of a batch | ms | llama.cpp's kernels, ms | times llama.cpp's one row | tokens a batch, of the bundle's own LLM | times llama.cpp's one token a batch |\n|---:|---:|---:|---:|---:|---:|\n"
        + string.Concat(costs.Select(c => string.Create(CultureInfo.InvariantCulture,
            $"| {c.Batch.Rows} | {c.Batch.Milliseconds:0.000} | {c.Batch.LlamacppMilliseconds:0.000} | {c.Batch.TimesOne:0.00} | {c.TokensABatch:0.00} | {c.Speedup:0.00} |\n")));
}

/// <summary>All figures of one run.</summary>
internal sealed record DecodeResult(
    double SpeedupVsLlamacpp, double PlainVsLlamacpp, double FirstTokenVsPrefill, int Parallel, double? ParallelSpeedupVsLlamacpp, double? ParallelVsOneByOne,
    IReadOnlyList<DecodeRow> Rows, IReadOnlyList<TogetherRow> Together, IReadOnlyList<BatchCost> Batches, string SameTexts, double CacheMib, string FirstText)
{
    public string Markdown
    {
        get
        {
            var text = new StringBuilder();
            string Three(double[] values) => string.Join(" / ", values.Select(v => v.ToString("0.00", CultureInfo.InvariantCulture)));
            text.AppendLine("| way | tokens/s | tokens a batch | ms a token p50/p95/p99 | ms to first token p50/p95/p99 | tokens |\n|---|---:|---:|---:|---:|---:|");
            foreach (var row in Rows)
                text.AppendLine(CultureInfo.InvariantCulture, $"| {row.Way} | {row.TokensPerSecond:0.0} | {row.Acceptance:0.00} | {Three(row.TokenMs)} | {Three(row.FirstTokenMs)} | {row.Tokens} |");
            text.AppendLine(CultureInfo.InvariantCulture, $"\nSpeculation is {SpeedupVsLlamacpp:0.00} times as fast as llama.cpp's loop, the plain path {PlainVsLlamacpp:0.000} times (medians over the texts).");
            text.AppendLine(CultureInfo.InvariantCulture, $"First token after {FirstTokenVsPrefill:0.000} of the loop's time. Keys and values: {CacheMib:0.0} MiB a text. {SameTexts}");
            if (Together.Count > 0)
            {
                text.AppendLine(CultureInfo.InvariantCulture, $"\n| {Parallel} at once | texts/minute | tokens/s | batches | ms a batch p50/p95/p99 | share of llama.cpp |\n|---|---:|---:|---:|---:|---:|");
                foreach (var row in Together)
                    text.AppendLine(CultureInfo.InvariantCulture, $"| {row.Way} | {row.TextsPerMinute:0.0} | {row.TokensPerSecond:0.0} | {row.Batches} | {(row.BatchMs is null ? "" : Three(row.BatchMs))} | {row.LlamacppShare:0.00} |");
                text.AppendLine(CultureInfo.InvariantCulture, $"\nMany at once: {ParallelVsOneByOne:0.00} times the texts per minute of one after another, {ParallelSpeedupVsLlamacpp:0.00} times the tokens of llama.cpp's loop with as many at once.");
            }
            foreach (var costs in Batches.GroupBy(batch => batch.Texts))
            {
                string rows = costs.Key == 1 ? "rows of a batch" : $"rows of each of {costs.Key} texts";
                text.AppendLine(CultureInfo.InvariantCulture, $"\n| {rows} | ms | llama.cpp's kernels, ms | times llama.cpp's one row |\n|---:|---:|---:|---:|");
                foreach (var batch in costs)
                    text.AppendLine(CultureInfo.InvariantCulture, $"| {batch.Rows} | {batch.Milliseconds:0.000} | {batch.LlamacppMilliseconds:0.000} | {batch.TimesOne:0.00} |");
            }
            return text.ToString();
        }
    }
}
