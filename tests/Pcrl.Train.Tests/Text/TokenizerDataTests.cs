using Pcrl.Runtime;
using Pcrl.Train.Text;

namespace Pcrl.Train.Tests.Text;

public sealed class TokenizerDataTests : IDisposable
{
    private readonly string _path = Path.Combine(Path.GetTempPath(), $"pcrl-tokenizer-{Guid.NewGuid():N}.json");

    public void Dispose() => File.Delete(_path);

    private static TokenizerData Small() => new(
        [.. TokenizerData.ByteAlphabet.Select(c => c.ToString()), "ab", "Ġab"], ["a b", "Ġ ab"],
        [TokenizerData.BosToken, TokenizerData.EosToken, "[Img]"]);

    [Fact]
    public void Saved_data_comes_back()
    {
        Small().Save(_path);
        var loaded = TokenizerData.Load(_path);
        Assert.Equal(Small().Tokens, loaded.Tokens);
        Assert.Equal(Small().Merges, loaded.Merges);
        Assert.Equal(Small().SpecialTokens, loaded.SpecialTokens);
        Assert.Equal((258, 259, 261), (loaded.BosId, loaded.EosId, loaded.Count));
    }

    [Fact]
    public void A_bundle_gives_the_tokenizer_it_was_made_with()
    {
        string root = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(root, "Pcrl.sln")))
            root = Path.GetDirectoryName(root)!;
        var data = TokenizerData.LoadGguf(Path.Combine(root, "models", "mini", "llm.gguf"));
        const string Text = "双侧基底节区见低密度影，512 × 512。";
        var tokenizer = new Tokenizer(data);
        Assert.Equal(Text, tokenizer.Decode(tokenizer.Encode(Text)));
        data.Save(_path); // which checks that it is whole
        Assert.Equal(tokenizer.Encode(Text), new Tokenizer(TokenizerData.Load(_path)).Encode(Text));
        Assert.Throws<InputException>(() => TokenizerData.LoadGguf(Path.Combine(root, "models", "mini", "visual.gguf")));
    }

    [Fact]
    public void The_byte_alphabet_is_GPT2s()
    {
        Assert.Equal(256, TokenizerData.ByteAlphabet.Distinct().Count());
        Assert.Equal('A', TokenizerData.ByteAlphabet['A']);
        Assert.Equal('Ġ', TokenizerData.ByteAlphabet[' ']);
        Assert.Equal('Ċ', TokenizerData.ByteAlphabet['\n']);
        Assert.Equal('Ń', TokenizerData.ByteAlphabet[0xAD]);
    }

    [Theory]
    [InlineData("not json")]
    [InlineData("[]")]
    [InlineData("""{"model":{"type":"WordPiece"}}""")]
    [InlineData("""{"added_tokens":[],"model":{"type":"BPE","vocab":{"a":1},"merges":[]}}""")]
    [InlineData("""{"added_tokens":[],"model":{"type":"BPE","vocab":{"a":0},"merges":[]}}""")]
    [InlineData("""{"added_tokens":[{"id":1,"content":"<|begin_of_text|>"},{"id":2,"content":"<|end_of_text|>"}],"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}""")]
    [InlineData("""{"added_tokens":[{"id":1,"content":"<|begin_of_text|>"},{"id":2,"content":"<|end_of_text|>"}],"model":{"type":"BPE","vocab":{"a":0},"merges":[null]}}""")]
    [InlineData("""{"added_tokens":[{"id":1,"content":"<|begin_of_text|>"},{"id":2,"content":"<|end_of_text|>"}],"model":{"type":"BPE","vocab":{"a":0},"merges":[["a"]]}}""")]
    public void Other_files_are_refused(string content)
    {
        File.WriteAllText(_path, WithSplit(content));
        Assert.Throws<InputException>(() => TokenizerData.Load(_path));
    }

    [Fact]
    public void Both_spellings_of_merges_are_read()
    {
        File.WriteAllText(_path, WithSplit("""
            {"added_tokens":[{"id":3,"content":"<|begin_of_text|>"},{"id":4,"content":"<|end_of_text|>"}],
             "model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":[["a","b"]]}}
            """));
        Assert.Equal(["a b"], TokenizerData.Load(_path).Merges);
    }

    /// <summary>LLaMA-3's cutting in front of the rest, so that it is the rest that is refused.</summary>
    private static string WithSplit(string json)
    {
        string regex = System.Text.Json.JsonSerializer.Serialize(TokenizerData.SplitPattern);
        string split = "{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":" + regex + "}},\"added_tokens\"";
        return json.Replace("{\"added_tokens\"", split);
    }
}
