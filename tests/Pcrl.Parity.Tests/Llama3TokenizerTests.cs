using System.Text;
using Pcrl.Convert;
using Pcrl.Runtime;
using Pcrl.Runtime.Bundles;
using Pcrl.Runtime.Language;
using Pcrl.Tests;
using Pcrl.Train.Text;

namespace Pcrl.Parity.Tests;

/// <summary>A narrow model with LLaMA-3's whole vocabulary, converted once.</summary>
public sealed class Llama3Vocabulary : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-test-").FullName;

    public Llama3Vocabulary()
    {
        Data = TokenizerData.Load(JsonPath);
        var config = SmallLlm.Narrow with { VocabSize = Data.Count, MaxPositionEmbeddings = 8192 };
        GgufPath = Path.Combine(_folder, "llm.gguf");
        using var model = SmallLlm.InMemory(SmallLlm.Narrow) with { Config = config, Weights = new MemoryTensors(SmallLlm.Weights(config)), Tokenizer = Data };
        LlmGgufWriter.Write(GgufPath, model, adapter: null);
    }

    public static string JsonPath => Path.Combine(AppContext.BaseDirectory, "llama3-tokenizer", "tokenizer.json");

    public TokenizerData Data { get; }

    public string GgufPath { get; }

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}

/// <summary>LLaMA-3's tokenizer.json → our tokenizer and our GGUF → llama.cpp's tokenizer.</summary>
public sealed class Llama3TokenizerTests(Llama3Vocabulary vocabulary) : IClassFixture<Llama3Vocabulary>
{
    [Fact]
    public void The_vocabulary_is_llama_3s()
    {
        Assert.Equal(128256, vocabulary.Data.Count);
        Assert.Equal((128000, 128001, 128009), (vocabulary.Data.BosId, vocabulary.Data.EosId, vocabulary.Data.SpecialId(TokenizerData.EndOfTurnToken)));
        using var file = GgufFile.Open(vocabulary.GgufPath);
        Assert.Equal("llama-bpe", file.GetString("tokenizer.ggml.pre"));
        Assert.Equal(280147, file.GetStrings("tokenizer.ggml.merges").Length);
    }

    /// <summary>Known tokens of LLaMA-3, from its model card and public examples.</summary>
    [Fact]
    public void Known_texts_have_their_known_tokens() =>
        Assert.Equal([9906, 1917, 0], new Tokenizer(vocabulary.Data).Encode("Hello world!"));

    [Fact]
    public void Llama_cpp_cuts_10000_strings_as_we_do()
    {
        var tokenizer = new Tokenizer(vocabulary.Data);
        using var model = LanguageModel.Load(vocabulary.GgufPath, new LanguageOptions { Threads = 1 });
        foreach (string text in Texts(10_000, seed: 1))
        {
            int[] expected = model.Tokenize(text);
            Assert.True(expected.SequenceEqual(tokenizer.Encode(text)), $"{Escaped(text)}: llama.cpp [{string.Join(' ', expected)}], here [{string.Join(' ', tokenizer.Encode(text))}]");
            Assert.Equal(text, tokenizer.Decode(expected));
        }
    }

    [SkippableFact]
    public void Node_llama_cpp_cuts_5000_strings_as_we_do()
    {
        var tokenizer = new Tokenizer(vocabulary.Data);
        string[] texts = [.. Texts(5_000, seed: 2)];
        foreach (var (text, tokens) in texts.Zip(NodeLlamaCpp.Tokenize(vocabulary.GgufPath, texts)))
            Assert.True(tokens.SequenceEqual(tokenizer.Encode(text)), $"{Escaped(text)}: node-llama-cpp [{string.Join(' ', tokens)}], here [{string.Join(' ', tokenizer.Encode(text))}]");
    }

    [SkippableFact]
    public void Node_llama_cpp_reads_our_prompt_and_continues_it_as_we_do()
    {
        var template = PromptTemplate.ReportGeneration;
        NodeLlamaCpp.AssertAgrees(vocabulary.GgufPath, template.Head + template.Tail + "左侧额叶 12.5 mm 🧠 and more", count: 12);
    }

    [Fact]
    public void Special_tokens_of_a_prompt_agree_too()
    {
        const string prompt = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n脑CT 12345<|eot_id|><|end_of_text|>";
        using var model = LanguageModel.Load(vocabulary.GgufPath, new LanguageOptions { Threads = 1 });
        Assert.Equal(model.Tokenize(prompt, parseSpecial: true), new Tokenizer(vocabulary.Data).EncodePrompt(prompt));
    }

    /// <summary>Meta's file holds the same tokens by rank and no merges; they must come out as Hugging Face wrote them.</summary>
    [Fact]
    public void Metas_tokenizer_model_gives_the_same_tokens_and_merges()
    {
        string path = Path.GetTempFileName();
        try
        {
            File.WriteAllLines(path, vocabulary.Data.Tokens.Select((token, rank) => $"{System.Convert.ToBase64String([.. token.Select(ByteOf)])} {rank}"));
            var data = TokenizerData.LoadTiktoken(path);
            Assert.Equal(vocabulary.Data.Tokens, data.Tokens);
            Assert.Equal(vocabulary.Data.Merges, data.Merges);
            Assert.Equal(vocabulary.Data.SpecialTokens, data.SpecialTokens);
        }
        finally
        {
            File.Delete(path);
        }
    }

    private static readonly Dictionary<char, byte> Bytes = TokenizerData.ByteAlphabet.Select((c, b) => (c, (byte)b)).ToDictionary(p => p.c, p => p.Item2);

    private static byte ByteOf(char spelt) => Bytes[spelt];

    [Theory]
    [InlineData("\\\\p{N}{1,3}", "\\\\p{N}", "cuts a text otherwise")]
    [InlineData("\"type\": \"BPE\"", "\"type\": \"Unigram\"", "is not a BPE tokenizer")]
    public void Other_tokenizers_are_refused(string from, string to, string expected)
    {
        string path = Path.GetTempFileName(), json = File.ReadAllText(Llama3Vocabulary.JsonPath);
        try
        {
            Assert.Contains(from, json);
            File.WriteAllText(path, json.Replace(from, to));
            Assert.Contains(expected, Assert.Throws<InputException>(() => TokenizerData.Load(path)).Message);
        }
        finally
        {
            File.Delete(path);
        }
    }

    private static string Escaped(string text) => string.Join(' ', text.EnumerateRunes().Select(r => $"U+{r.Value:X4}"));

    /// <summary>Medical Chinese, English with contractions, digits, emoji, white space of every kind, and code points from the whole of Unicode.</summary>
    private static IEnumerable<string> Texts(int count, int seed)
    {
        string[] words =
        [
            "左侧基底节区", "低密度影", "，", "。", "CT", "mm", "don't", "I'LL", "we've", "'s", "12345", "3.14", "½", "Ⅳ", "٣٤٥", "🧠", "👩‍⚕️", "🇨🇳", "é", "e\u0301", "ſ", "ß",
            " ", "  ", "\t", "\n", "\r\n", "\u3000", "\u00A0", "\u200B", "\u2028", "!!!", "...", "——", "（", "𠮷", "𝒜", "한국어", "ไทย", "עברית", "<|eot_id|>", "[Img]", "\0", "\uFFFD",
        ];
        var random = new Random(seed);
        for (int i = 0; i < count; i++)
        {
            var text = new StringBuilder();
            for (int length = random.Next(1, 24); length > 0; length--)
            {
                if (random.Next(3) > 0)
                    text.Append(words[random.Next(words.Length)]);
                else
                    text.Append(new Rune(RandomCodePoint(random)).ToString());
            }
            yield return text.ToString();
        }
    }

    private static int RandomCodePoint(Random random)
    {
        while (true)
        {
            int value = random.Next(4) switch
            {
                0 => random.Next(0x20, 0x7F),
                1 => random.Next(0x4E00, 0xA000),
                2 => random.Next(0x80, 0x3000),
                _ => random.Next(0x110000),
            };
            if (Rune.IsValid(value))
                return value;
        }
    }
}
