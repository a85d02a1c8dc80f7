using System.Text;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;

namespace Pcrl.Runtime.Tests.Language;

/// <summary>One tiny model for all tests of the class.</summary>
public sealed class TinyModel : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    public TinyModel() => Model = LanguageModel.Load(new TinyLlm().Save(_folder.File("llm.gguf")), new LanguageOptions { Threads = 12, ContextLength = 200 });

    public LanguageModel Model { get; }

    public void Dispose()
    {
        Model.Dispose();
        _folder.Dispose();
    }
}

public sealed class LanguageModelTests(TinyModel shared) : IClassFixture<TinyModel>
{
    private readonly LanguageModel _model = shared.Model;

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

    [Fact]
    public void Tokens_that_do_not_exist_are_refused()
    {
        Assert.Throws<ArgumentOutOfRangeException>(() => _model.EvaluateTokens([-1]));
        Assert.Throws<ArgumentOutOfRangeException>(() => _model.Embed([100000]));
        Assert.Throws<ArgumentOutOfRangeException>(() => _model.Detokenize([100000]));
        Assert.Throws<ArgumentException>(() => _model.EvaluateTokens([]));
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
