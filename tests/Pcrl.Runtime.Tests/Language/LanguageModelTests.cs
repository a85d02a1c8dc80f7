using System.Text;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;

namespace Pcrl.Runtime.Tests.Language;

/// <summary>One tiny model for all tests of the class.</summary>
public sealed class TinyModel : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public TinyModel() => Model = LanguageModel.Load(new TinyLlm().Save(_folder.File("llm.gguf")), new LanguageOptions { Threads = 1, ContextLength = 200 });

    public LanguageModel Model { get; }

    public void Dispose()
    {
        Model.Dispose();
        _folder.Dispose();
    }
}

public sealed class LanguageModelTests(TinyModel shared) : IClassFixture<TinyModel>
{
    private static readonly PromptTemplate Prompt = new(TinyLlm.Bos + TinyLlm.Image, "脑室 report:");
    private readonly LanguageModel _model = shared.Model;

    private static float[] Visual(int count = 4) => [.. Enumerable.Range(0, count * TinyLlm.Width).Select(i => MathF.Sin(i))];

    private async Task<(List<string> Pieces, GenerationSummary Summary)> Generate(
        SamplingOptions sampling, float[]? visual = null, PromptTemplate? prompt = null, CancellationToken cancellation = default)
    {
        var pieces = new List<string>();
        GenerationSummary? summary = null;
        await foreach (var piece in _model.GenerateAsync(prompt ?? Prompt, visual ?? Visual(), sampling, cancellation))
        {
            Assert.Null(summary);
            pieces.Add(piece.Text);
            summary = piece.Summary;
        }
        return (pieces, summary!);
    }

    [Fact]
    public void Embeddings_of_tokens_give_the_logits_of_the_tokens()
    {
        int[] tokens = _model.Tokenize(TinyLlm.Bos + "脑室未见出血 and more, 123\n", parseSpecial: true);
        float[] byTokens = _model.EvaluateTokens(tokens), byEmbeddings = _model.EvaluateEmbeddings(_model.Embed(tokens));
        Assert.Equal(tokens.Length * _model.Config.VocabSize, byTokens.Length);
        Assert.Equal(byTokens, byEmbeddings);
        Assert.True(byTokens.Max() - byTokens.Min() > 0.5);
    }

    [Fact]
    public async Task The_first_token_is_that_of_the_whole_prompt_in_one_batch()
    {
        var (embeddings, textTokens) = _model.Assemble(Prompt, Visual());
        float[] logits = _model.EvaluateEmbeddings(embeddings)[^_model.Config.VocabSize..];
        var (pieces, summary) = await Generate(new SamplingOptions { Temperature = 0, MaxTokens = 1 });
        Assert.Equal(_model.Detokenize([Array.IndexOf(logits, logits.Max())]).TrimEnd('\uFFFD'), string.Concat(pieces));
        Assert.Equal((4, textTokens, 1), (summary.VisualTokens, summary.PromptTokens, summary.GeneratedTokens));
        Assert.True(summary.Prefill > TimeSpan.Zero);
    }

    [Fact]
    public async Task The_text_depends_on_seed_and_picture_only()
    {
        var options = new SamplingOptions { Seed = 7, Temperature = 1.5f, MaxTokens = 60 };
        string first = string.Concat((await Generate(options)).Pieces);
        Assert.Equal(first, string.Concat((await Generate(options)).Pieces));
        Assert.NotEqual(first, string.Concat((await Generate(options with { Seed = 8 })).Pieces));
        Assert.NotEqual(first, string.Concat((await Generate(options, [.. Visual().Select(v => -v)])).Pieces));
    }

    [Fact]
    public async Task It_ends_at_the_limit_at_the_end_of_the_context_and_at_the_end_of_the_text()
    {
        var greedy = new SamplingOptions { Temperature = 0 };
        var (_, limited) = await Generate(greedy with { MaxTokens = 5 });
        Assert.Equal((StopReason.TokenLimit, 5), (limited.Stop, limited.GeneratedTokens));

        var (_, full) = await Generate(greedy with { MaxTokens = 1000 });
        Assert.Equal(StopReason.ContextFull, full.Stop);
        Assert.Equal(_model.ContextLength, full.VisualTokens + full.PromptTokens + full.GeneratedTokens - 1); // the last one is never fed back

        for (ulong seed = 0; ; seed++)
        {
            Assert.InRange(seed, 0u, 40u); // near-uniform draws from 280 tokens: the end comes within a few texts
            var (pieces, summary) = await Generate(new SamplingOptions { Temperature = 20, TopP = 1, Seed = seed, MaxTokens = 1000 });
            if (summary.Stop != StopReason.EndOfText)
                continue;
            Assert.DoesNotContain(TinyLlm.Eos, string.Concat(pieces));
            break;
        }
    }

    [Fact]
    public void Special_tokens_are_parsed_only_on_request()
    {
        Assert.Equal(_model.SpecialToken(TinyLlm.Image), _model.Tokenize(TinyLlm.Image, parseSpecial: true).Single());
        Assert.NotNull(_model.SpecialToken(TinyLlm.Eos));
        Assert.True(_model.EndsText(_model.SpecialToken(TinyLlm.Eos)!.Value));
        Assert.False(_model.EndsText(0));
        Assert.Equal(TinyLlm.Eos.Length, _model.Tokenize(TinyLlm.Eos).Length);
        Assert.Null(_model.SpecialToken("a"));
        Assert.Null(_model.SpecialToken("<|nothing|>"));
        Assert.Empty(_model.Tokenize(""));
    }

    [Theory]
    [InlineData("脑室未见出血，a b\n\n12 🧠 é")]
    [InlineData(" ")]
    [InlineData("<|end_of_text|>")]
    public void Text_survives_tokens(string text) => Assert.Equal(text, _model.Detokenize(_model.Tokenize(text)));

    [Fact]
    public void Merges_are_used()
    {
        Assert.Single(_model.Tokenize("脑室"));
        Assert.Equal(2, _model.Tokenize("室脑").Length);
    }

    [Fact]
    public void Characters_come_whole_though_their_bytes_are_spread_over_tokens()
    {
        int[] tokens = _model.Tokenize("🧠é");
        Assert.Equal(6, tokens.Length); // one per byte
        Assert.Equal("", _model.Detokenize(tokens.AsSpan(0, 3)));
        Assert.Equal("🧠", _model.Detokenize(tokens.AsSpan(0, 5)));
        Assert.Equal("\uFFFDa", _model.Detokenize([tokens[0], _model.Tokenize("a")[0]]));
    }

    [Fact]
    public async Task Pieces_never_hold_half_a_character()
    {
        var (pieces, _) = await Generate(new SamplingOptions { Temperature = 3, TopP = 1, Seed = 3, MaxTokens = 120 });
        Assert.All(pieces, piece => Assert.Equal(piece, Encoding.UTF8.GetString(Encoding.UTF8.GetBytes(piece))));
    }

    [Fact]
    public async Task Cancelling_ends_it_and_the_next_one_works()
    {
        var options = new SamplingOptions { Temperature = 0, MaxTokens = 20 };
        string expected = string.Concat((await Generate(options)).Pieces);
        using var cancellation = new CancellationTokenSource();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(async () =>
        {
            await foreach (var piece in _model.GenerateAsync(Prompt, Visual(), options with { Temperature = 2, TopP = 1, MaxTokens = 150 }, cancellation.Token))
                cancellation.Cancel();
        });
        using var cancelled = new CancellationTokenSource();
        cancelled.Cancel();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => Generate(options, cancellation: cancelled.Token));
        Assert.Equal(expected, string.Concat((await Generate(options)).Pieces));
    }

    [Fact]
    public async Task Walking_away_in_the_middle_frees_the_model()
    {
        await foreach (var _ in _model.GenerateAsync(Prompt, Visual(), new SamplingOptions { Temperature = 3 }))
            break;
        Assert.NotEmpty((await Generate(new SamplingOptions { MaxTokens = 3 })).Pieces);
    }

    [Fact]
    public async Task Two_at_a_time_take_turns()
    {
        var options = new SamplingOptions { Temperature = 0, MaxTokens = 20 };
        string expected = string.Concat((await Generate(options)).Pieces);
        var both = await Task.WhenAll(Generate(options), Generate(options));
        Assert.All(both, text => Assert.Equal(expected, string.Concat(text.Pieces)));
    }

    [Fact]
    public async Task Input_that_does_not_fit_is_refused()
    {
        await Assert.ThrowsAsync<InputException>(() => Generate(new SamplingOptions(), Visual(300)));
        await Assert.ThrowsAsync<InputException>(() => Generate(new SamplingOptions(), [], new PromptTemplate("", "")));
        await Assert.ThrowsAsync<InputException>(() => Generate(new SamplingOptions { TopP = 2 }));
        await Assert.ThrowsAsync<InputException>(() => Generate(new SamplingOptions(), [.. Visual().Select(_ => float.NaN)]));
        await Assert.ThrowsAsync<ArgumentException>(() => Generate(new SamplingOptions(), new float[TinyLlm.Width + 1]));
        Assert.Throws<ArgumentOutOfRangeException>(() => _model.EvaluateTokens([-1]));
        Assert.Throws<ArgumentOutOfRangeException>(() => _model.Embed([100000]));
        Assert.Throws<ArgumentOutOfRangeException>(() => _model.Detokenize([100000]));
        Assert.Throws<ArgumentException>(() => _model.EvaluateTokens([]));
    }

    [Theory]
    [InlineData(GgufType.F16)]
    [InlineData(GgufType.BF16)]
    public void Half_precision_embeddings_are_those_of_llama(GgufType type)
    {
        using var folder = new TemporaryFolder();
        using var model = LanguageModel.Load(new TinyLlm(type).Save(folder.File("llm.gguf")), new LanguageOptions { Threads = 1 });
        int[] tokens = [1, 200, 260, 5];
        Assert.Equal(model.EvaluateTokens(tokens), model.EvaluateEmbeddings(model.Embed(tokens)));
    }

    [Fact]
    public void Quantised_embeddings_are_those_of_llama()
    {
        using var folder = new TemporaryFolder();
        var tiny = new TinyLlm();
        tiny.Tensors["token_embd.weight"] = (GgufType.Q8_0, [tiny.Tokens.Count, TinyLlm.Width]);
        using var model = LanguageModel.Load(tiny.Save(folder.File("llm.gguf")), new LanguageOptions { Threads = 1 });
        int[] tokens = [1, 200, 260, 5];
        Assert.Equal(model.EvaluateTokens(tokens), model.EvaluateEmbeddings(model.Embed(tokens)));
        float[] exact = TinyLlm.Values("token_embd.weight", [tiny.Tokens.Count, TinyLlm.Width])[TinyLlm.Width..(2 * TinyLlm.Width)];
        Assert.All(exact.Zip(model.Embed([1])), pair => Assert.Equal(pair.First, pair.Second, 0.002f));
    }

    [Theory]
    [InlineData(-1, 512)]
    [InlineData(100000, 512)]
    [InlineData(1, 0)]
    public void Impossible_load_options_are_refused(int threads, int length) =>
        Assert.Throws<InputException>(() => LanguageModel.Load("llm.gguf", new LanguageOptions { Threads = threads, ContextLength = length }));

    [Fact]
    public void The_context_is_never_longer_than_the_model_was_made_for()
    {
        using var folder = new TemporaryFolder();
        using var model = LanguageModel.Load(new TinyLlm().Save(folder.File("llm.gguf")), new LanguageOptions { ContextLength = 100000 });
        Assert.Equal(512, model.ContextLength);
    }
}
