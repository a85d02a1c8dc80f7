using System.Text;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;

namespace Pcrl.Runtime.Tests.Language;

/// <summary>One tiny model and its decoders for all tests of the class.</summary>
public sealed class TinyDecoders : IDisposable
{
    /// <summary>Report language of the tiny model: what it writes at several seeds, so that drafts are right now and then.</summary>
    public static readonly SamplingOptions Warm = new() { Temperature = 0.6f, MaxTokens = 60 };

    private readonly TinyModel _tiny = new();

    public TinyDecoders()
    {
        Plain = New(new DecodingOptions { Speculation = false });
        var texts = new List<string>();
        for (ulong seed = 100; seed < 130; seed++)
            texts.Add(string.Concat(Plain.GenerateAsync(BatchDecoderTests.Visual(), Warm with { Seed = seed }).ToBlockingEnumerable().Select(piece => piece.Text)));
        Phrases = texts;
        Speculative = New(new DecodingOptions { Phrases = texts });
        Many = New(new DecodingOptions { Phrases = texts, Sequences = 5 });
        SideBySide = New(new DecodingOptions { Phrases = texts, Sequences = 13, LogitsForThreads = 0 });
        foreach (var decoder in (BatchDecoder[])[Speculative, Many, SideBySide])
            decoder.WaitUntilReady();
    }

    public LanguageModel Model => _tiny.Model;

    public IReadOnlyList<string> Phrases { get; }

    public BatchDecoder Plain { get; }

    public BatchDecoder Speculative { get; }

    public BatchDecoder Many { get; }

    /// <summary>Three contexts, whose texts are drawn in parallel.</summary>
    public BatchDecoder SideBySide { get; }

    public BatchDecoder New(DecodingOptions options) => new(_tiny.Model, BatchDecoderTests.Prompt, options);

    public void Dispose()
    {
        Plain.Dispose();
        Speculative.Dispose();
        Many.Dispose();
        SideBySide.Dispose();
        _tiny.Dispose();
    }
}

public sealed class BatchDecoderTests(TinyDecoders shared) : IClassFixture<TinyDecoders>
{
    internal static readonly PromptTemplate Prompt = new(TinyLlm.Bos + TinyLlm.Image, "脑室 report:");
    private readonly LanguageModel _model = shared.Model;

    private BatchDecoder Plain => shared.Plain;

    internal static float[] Visual(int count = 4) => [.. Enumerable.Range(0, count * TinyLlm.Width).Select(i => MathF.Sin(i))];

    private static async Task<(List<string> Pieces, GenerationSummary Summary)> Generate(
        BatchDecoder decoder, SamplingOptions sampling, float[]? visual = null, CancellationToken cancellation = default)
    {
        var pieces = new List<string>();
        GenerationSummary? summary = null;
        await foreach (var piece in decoder.GenerateAsync(visual ?? Visual(), sampling, cancellation))
        {
            Assert.Null(summary);
            pieces.Add(piece.Text);
            summary = piece.Summary;
        }
        return (pieces, summary!);
    }

    private static async Task<string> Text(BatchDecoder decoder, SamplingOptions sampling, float[]? visual = null) =>
        string.Concat((await Generate(decoder, sampling, visual)).Pieces);

    [Fact]
    public async Task The_first_token_is_that_of_the_whole_prompt_in_one_batch()
    {
        int[] head = _model.Tokenize(Prompt.Head, parseSpecial: true), tail = _model.Tokenize(Prompt.Tail, parseSpecial: true);
        float[] logits = _model.EvaluateEmbeddings([.. _model.Embed(head), .. Visual(), .. _model.Embed(tail)])[^_model.Config.VocabSize..];
        var (pieces, summary) = await Generate(Plain, new SamplingOptions { Temperature = 0, MaxTokens = 1 });
        Assert.Equal(_model.Detokenize([Array.IndexOf(logits, logits.Max())]).TrimEnd('\uFFFD'), string.Concat(pieces));
        Assert.Equal((4, head.Length + tail.Length, 1), (summary.VisualTokens, summary.PromptTokens, summary.GeneratedTokens));
        Assert.True(summary.Prefill > TimeSpan.Zero);
    }

    [Fact]
    public async Task The_text_depends_on_seed_and_picture_only()
    {
        var options = new SamplingOptions { Seed = 7, Temperature = 1.5f, MaxTokens = 60 };
        string first = string.Concat((await Generate(Plain, options)).Pieces);
        Assert.Equal(first, string.Concat((await Generate(Plain, options)).Pieces));
        Assert.NotEqual(first, string.Concat((await Generate(Plain, options with { Seed = 8 })).Pieces));
        Assert.NotEqual(first, string.Concat((await Generate(Plain, options, [.. Visual().Select(v => -v)])).Pieces));
    }

    [Fact]
    public async Task It_ends_at_the_limit_at_the_end_of_the_context_and_at_the_end_of_the_text()
    {
        var greedy = new SamplingOptions { Temperature = 0 };
        var (_, limited) = await Generate(Plain, greedy with { MaxTokens = 5 });
        Assert.Equal((StopReason.TokenLimit, 5), (limited.Stop, limited.GeneratedTokens));

        var (_, full) = await Generate(Plain, greedy with { MaxTokens = 1000 });
        Assert.Equal(StopReason.ContextFull, full.Stop);
        Assert.Equal(_model.ContextLength, full.VisualTokens + full.PromptTokens + full.GeneratedTokens - 1); // the last one is never fed back

        for (ulong seed = 0; ; seed++)
        {
            Assert.InRange(seed, 0u, 40u); // near-uniform draws from 280 tokens: the end comes within a few texts
            var (pieces, summary) = await Generate(Plain, new SamplingOptions { Temperature = 20, TopP = 1, Seed = seed, MaxTokens = 1000 });
            if (summary.Stop != StopReason.EndOfText)
                continue;
            Assert.DoesNotContain(TinyLlm.Eos, string.Concat(pieces));
            break;
        }
    }

    [Fact]
    public async Task Pieces_never_hold_half_a_character()
    {
        var (pieces, _) = await Generate(Plain, new SamplingOptions { Temperature = 3, TopP = 1, Seed = 3, MaxTokens = 120 });
        Assert.All(pieces, piece => Assert.Equal(piece, Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(piece))));
    }

    [Fact]
    public async Task Cancelling_ends_it_and_the_next_one_works()
    {
        var options = new SamplingOptions { Temperature = 0, MaxTokens = 20 };
        string expected = string.Concat((await Generate(Plain, options)).Pieces);
        using var cancellation = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (var piece in Plain.GenerateAsync(Visual(), options with { Temperature = 2, TopP = 1, MaxTokens = 150 }, cancellation.Token))
                cancellation.Cancel();
        });
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Generate(Plain, options, cancellation: cancelled.Token));
        Assert.Equal(expected, string.Concat((await Generate(Plain, options)).Pieces));
    }

    [Fact]
    public async Task Walking_away_in_the_middle_frees_the_model()
    {
        await foreach (var _ in Plain.GenerateAsync(Visual(), new SamplingOptions { Temperature = 3 }))
            break;
        Assert.NotEmpty((await Generate(Plain, new SamplingOptions { MaxTokens = 3 })).Pieces);
    }

    [Fact]
    public async Task Two_at_a_time_take_turns()
    {
        var options = new SamplingOptions { Temperature = 0, MaxTokens = 20 };
        string expected = string.Concat((await Generate(Plain, options)).Pieces);
        var both = await Task.WhenAll(Generate(Plain, options), Generate(Plain, options));
        Assert.All(both, text => Assert.Equal(expected, string.Concat(text.Pieces)));
    }

    [Fact]
    public async Task Input_that_does_not_fit_is_refused()
    {
        await Assert.ThrowsAsync<InputException>(() => Generate(Plain, new SamplingOptions(), Visual(300)));
        Assert.NotEmpty(await Text(Plain, TinyDecoders.Warm, [])); // no picture is no fault
        using var empty = new BatchDecoder(_model, new PromptTemplate("", ""), new DecodingOptions());
        await Assert.ThrowsAsync<InputException>(() => Generate(empty, new SamplingOptions(), []));
        await Assert.ThrowsAsync<InputException>(() => Generate(Plain, new SamplingOptions { TopP = 2 }));
        await Assert.ThrowsAsync<InputException>(() => Generate(Plain, new SamplingOptions(), [.. Visual().Select(_ => float.NaN)]));
        await Assert.ThrowsAsync<ArgumentException>(() => Generate(Plain, new SamplingOptions(), new float[TinyLlm.Width + 1]));
    }

    [Theory]
    [InlineData(0f)]
    [InlineData(0.6f)]
    [InlineData(1.5f)]
    public async Task Drafts_and_company_change_no_text(float temperature)
    {
        SamplingOptions Options(int text) => TinyDecoders.Warm with { Temperature = temperature, Seed = (ulong)text };
        float[] Scan(int text) => [.. Visual(3 + text % 4).Select(v => v * (1 + 0.1f * text))];
        var plain = new List<string>();
        int drafted = 0;
        for (int i = 0; i < 40; i++)
        {
            plain.Add(await Text(Plain, Options(i), Scan(i)));
            var (pieces, summary) = await Generate(shared.Speculative, Options(i), Scan(i));
            Assert.Equal(plain[i], string.Concat(pieces));
            drafted += summary.DraftedTokens;
        }
        foreach (var decoder in (BatchDecoder[])[shared.Many, shared.SideBySide])
            Assert.Equal(plain, await Task.WhenAll(Enumerable.Range(0, 40).Select(i => Text(decoder, Options(i), Scan(i)))));
        Assert.True(drafted > 0);
    }

    [Theory]
    [InlineData(1, 1)]
    [InlineData(7, 1)]
    [InlineData(8, 2)]
    [InlineData(30, 3)] // the model has twelve threads
    public void A_small_model_has_a_context_for_four_threads_and_four_texts(int sequences, int contexts)
    {
        using var decoder = shared.New(new DecodingOptions { Sequences = sequences });
        Assert.Equal((sequences, contexts), (decoder.Sequences, decoder.Contexts));
    }

    [Fact]
    public async Task Texts_are_written_in_all_contexts_at_once()
    {
        var threads = new System.Collections.Concurrent.ConcurrentDictionary<int, bool>();
        using var decoder = new BatchDecoder(_model, Prompt, new DecodingOptions { Sequences = 12 }) { Stepped = _ => threads[Environment.CurrentManagedThreadId] = true };
        await Task.WhenAll(Enumerable.Range(0, 40).Select(i => Text(decoder, TinyDecoders.Warm with { Seed = (ulong)i })));
        Assert.Equal(3, threads.Count);
    }

    [Fact]
    public async Task Texts_of_a_batch_have_slots_one_behind_the_other_whoever_leaves_and_joins()
    {
        // llama.cpp computes what follows a text with another slot than the next one in a go of its own.
        var slots = new List<IReadOnlyList<int>>();
        using var many = new BatchDecoder(_model, Prompt, new DecodingOptions { Phrases = shared.Phrases, Sequences = 6 }) { Stepped = batch => slots.Add(batch.Slots) };
        await Task.WhenAll(Enumerable.Range(0, 60).Select(i => Text(many, TinyDecoders.Warm with { Seed = (ulong)i, MaxTokens = 1 + 7 * i % 60 })));
        Assert.InRange(slots.Count(batch => batch.Count > 2), 20, int.MaxValue);
        Assert.All(slots, batch => Assert.Equal(Enumerable.Range(0, batch.Count), batch));
    }

    [Fact]
    public async Task Drafts_of_unequal_length_share_a_batch_and_leave_nothing_behind()
    {
        using var many = shared.New(new DecodingOptions { Phrases = shared.Phrases, Sequences = 4, MostDrafted = 15, WholeDrafts = true });
        many.WaitUntilReady();
        SamplingOptions Options(int text) => TinyDecoders.Warm with { Seed = (ulong)text };
        var written = await Task.WhenAll(Enumerable.Range(0, 24).Select(i => Generate(many, Options(i))));
        for (int i = 0; i < written.Length; i++)
        {
            Assert.Equal(await Text(Plain, Options(i)), string.Concat(written[i].Pieces));
            // A row that stayed would make llama.cpp refuse the text's next batch, after which all read theirs again, each in a step of its own.
            Assert.InRange(written[i].Summary.Steps, 1, written[i].Summary.GeneratedTokens + 1);
        }
    }

    [Fact]
    public async Task A_full_context_ends_a_drafted_text_where_it_ends_a_plain_one()
    {
        var options = new SamplingOptions { Temperature = 0, MaxTokens = 1000 };
        var (plain, ofPlain) = await Generate(Plain, options);
        var (drafted, ofDrafted) = await Generate(shared.Speculative, options);
        Assert.Equal(StopReason.ContextFull, ofDrafted.Stop);
        Assert.Equal((ofPlain.Stop, ofPlain.GeneratedTokens, string.Concat(plain)), (ofDrafted.Stop, ofDrafted.GeneratedTokens, string.Concat(drafted)));
    }

    [Theory]
    [InlineData(4)]
    [InlineData(12)] // three contexts, drawn from in parallel
    public async Task A_text_that_is_cancelled_or_fails_takes_no_other_with_it(int sequences)
    {
        using var folder = new TemporaryFolder();
        // The embedding of one token is not a number: a text that draws it fails at its next step.
        using var model = LanguageModel.Load(new TinyLlm { Poisoned = 65 }.Save(folder.File("llm.gguf")), new LanguageOptions { Threads = 12, ContextLength = 200 });
        using var alone = new BatchDecoder(model, Prompt, new DecodingOptions());
        using var many = new BatchDecoder(model, Prompt, new DecodingOptions { Sequences = sequences, LogitsForThreads = sequences == 12 ? 0 : int.MaxValue });
        async Task<string> Outcome(BatchDecoder decoder, int seed, CancellationToken cancellation = default)
        {
            var options = new SamplingOptions { Temperature = 8, TopP = 1, MaxTokens = 60, Seed = (ulong)seed };
            try
            {
                return string.Concat((await Generate(decoder, options, cancellation: cancellation)).Pieces);
            }
            catch (InputException e)
            {
                return e.Message;
            }
        }
        var expected = new List<string>();
        for (int seed = 0; seed < 40; seed++)
            expected.Add(await Outcome(alone, seed));
        Assert.InRange(expected.Count(text => text.Contains("not finite")), 1, 30);

        using var cancellation = new CancellationTokenSource();
        var cancelled = Enumerable.Range(0, 10).Select(async seed =>
        {
            await foreach (var _ in many.GenerateAsync(Visual(), new SamplingOptions { Temperature = 2, Seed = (ulong)seed }, cancellation.Token))
                cancellation.Cancel();
        }).ToList();
        Assert.Equal(expected, await Task.WhenAll(Enumerable.Range(0, 40).Select(seed => Outcome(many, seed))));
        foreach (var text in cancelled)
            await Assert.ThrowsAnyAsync<OperationCanceledException>(() => text);
    }

    [Theory]
    [InlineData(2)]
    [InlineData(8)] // two contexts
    public async Task Closing_it_ends_texts_and_refuses_new_ones(int sequences)
    {
        var decoder = shared.New(new DecodingOptions { Sequences = sequences });
        var texts = Enumerable.Range(0, 2 * sequences + 1).Select(seed => Text(decoder, new SamplingOptions { Temperature = 3, TopP = 1, Seed = (ulong)seed, MaxTokens = 10000 })).ToList();
        decoder.Dispose();
        decoder.Dispose();
        foreach (var text in texts)
            Assert.IsType<ObjectDisposedException>(await Record.ExceptionAsync(() => text) ?? new ObjectDisposedException("it was faster"));
        await Assert.ThrowsAsync<ObjectDisposedException>(() => Text(decoder, new SamplingOptions()));
    }

    [Theory]
    [InlineData(0)]
    [InlineData(31)]
    public void Impossible_options_are_refused(int sequences) =>
        Assert.Throws<InputException>(() => shared.New(new DecodingOptions { Sequences = sequences }));
}
