using Pcrl.Train.Text;

namespace Pcrl.Train.Tests.Text;

public class TokenizerTests
{
    private static readonly string[] Texts =
    [
        "双侧大脑半球对称，左侧额叶见片状低密度影，边界不清，中线结构居中。",
        "双侧大脑半球对称，右侧颞叶见片状高密度影，周围见水肿带，中线结构左移。",
        "双侧大脑半球对称，脑实质内未见明显异常密度影，脑室系统形态正常，中线结构居中。",
    ];

    private static readonly TokenizerData Data = BytePairTrainer.Train(Texts, new TokenizerConfig { Tokens = 300, LongestToken = 12 });

    [Fact]
    public void Training_depends_on_the_texts_alone_and_keeps_the_limits()
    {
        var again = BytePairTrainer.Train(Texts, new TokenizerConfig { Tokens = 300, LongestToken = 12 });
        Assert.Equal(Data.Tokens, again.Tokens);
        Assert.Equal(Data.Merges, again.Merges);
        Assert.Equal(300, Data.Tokens.Count);
        Assert.All(Data.Tokens, token => Assert.InRange(token.Length, 1, 12));
    }

    [Theory]
    [InlineData("双侧大脑半球对称，左侧额叶见片状低密度影。")]
    [InlineData("A CT image, 12345 mm\n\n 鞍上池  层面 [Img] <|end_of_text|>\t!")]
    [InlineData("生僻字：𠮷 🧠")]
    [InlineData("")]
    public void Any_text_comes_back(string text)
    {
        var tokenizer = new Tokenizer(Data);
        Assert.Equal(text, tokenizer.Decode(tokenizer.Encode(text)));
    }

    [Fact]
    public void Several_threads_may_encode_at_once()
    {
        // Short pieces that are new each time: what is remembered of them grows all the while.
        string[] texts = [.. Enumerable.Range(0, 64).Select(text => string.Concat(Enumerable.Range(0, 2000).Select(i => $" {(char)('a' + i % 26)}{(char)(0x4E00 + 300 * text + i % 300)}")))];
        int[] expected = [.. texts.Select(text => new Tokenizer(Data).Encode(text).Count)];
        for (int round = 0; round < 10; round++)
        {
            var tokenizer = new Tokenizer(Data);
            Assert.Equal(expected, texts.AsParallel().AsOrdered().WithDegreeOfParallelism(8).Select(text => tokenizer.Encode(text).Count));
        }
    }

    [Fact]
    public void Known_phrases_become_few_tokens()
    {
        var tokenizer = new Tokenizer(Data);
        Assert.InRange(tokenizer.Encode(Texts[0]).Count, 1, Texts[0].Length * 2);
    }

    [Fact]
    public void Special_tokens_count_in_prompts_only()
    {
        var tokenizer = new Tokenizer(Data);
        var prompt = tokenizer.EncodePrompt("<|begin_of_text|>[Img]");
        Assert.Equal([Data.BosId, Data.SpecialId("[Img]")], prompt);
        Assert.DoesNotContain(Data.BosId, tokenizer.Encode("<|begin_of_text|>[Img]"));
    }

    [Fact]
    public void Merges_go_by_rank_and_whole_pieces_come_first()
    {
        // "a b" ranks before "b c": abc becomes ab c; but a piece that is itself a token is never cut.
        List<string> tokens = [.. TokenizerData.ByteAlphabet.Select(c => c.ToString()), "ab", "bc", "xyz"];
        var tokenizer = new Tokenizer(new TokenizerData(tokens, ["a b", "b c"], [TokenizerData.BosToken, TokenizerData.EosToken]));
        Assert.Equal(["ab", "c"], tokenizer.Encode("abc").Select(id => tokens[id]));
        Assert.Equal(["xyz"], tokenizer.Encode("xyz").Select(id => tokens[id]));
    }
}
