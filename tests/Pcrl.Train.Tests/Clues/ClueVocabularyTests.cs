using System.Text;
using System.Text.Json.Nodes;
using Pcrl.Runtime;
using Pcrl.Train.Clues;

namespace Pcrl.Train.Tests.Clues;

public sealed class ClueVocabularyTests : IDisposable
{
    private readonly string _file = Path.Combine(Directory.CreateTempSubdirectory("pcrl-vocabulary-").FullName, "own.json");

    public void Dispose() => Directory.Delete(Path.GetDirectoryName(_file)!, recursive: true);

    private static JsonNode Embedded()
    {
        using var stream = typeof(ClueVocabulary).Assembly.GetManifestResourceStream("Pcrl.Train.clues.json")!;
        return JsonNode.Parse(stream)!;
    }

    [Fact]
    public void A_byte_order_mark_is_no_harm()
    {
        File.WriteAllText(_file, Embedded().ToJsonString(), new UTF8Encoding(encoderShouldEmitUTF8Identifier: true));
        Assert.Equal(ClueVocabulary.Default.Entities, ClueVocabulary.Load(_file).Entities);
    }

    [Theory]
    [InlineData("simplified", "{\"腦\":null}", "one character")]
    [InlineData("imagePrompt", "\"{0} {1}\"", "image prompt")]
    [InlineData("imagePrompt", "\"A { CT {0}\"", "image prompt")]
    [InlineData("imagePrompt", "\"{{0}}\"", "image prompt")]
    [InlineData("headings", "[\"\"]", "empty word")]
    [InlineData("outsideHead", "[\"肺\",\"\"]", "empty word")]
    [InlineData("outsideHead", "[null]", "holds null")]
    [InlineData("layers", "[]", "0 layers")]
    [InlineData("layers", "[{\"name\":\"x\",\"entities\":[]}]", "1 layers")]
    [InlineData("english", "{}", "no English name")]
    public void What_is_wrong_is_said_when_it_is_read(string key, string value, string named)
    {
        var lists = Embedded();
        Assert.NotNull(lists[key]);
        lists[key] = JsonNode.Parse(value);
        File.WriteAllText(_file, lists.ToJsonString());
        string message = Assert.Throws<InputException>(() => ClueVocabulary.Load(_file)).Message;
        Assert.Contains("own.json", message);
        Assert.Contains(named, message);
    }

    [Fact]
    public void An_entity_needs_a_name_and_there_must_be_some()
    {
        var lists = Embedded();
        foreach (var layer in lists["layers"]!.AsArray())
            layer!["entities"] = new JsonArray();
        File.WriteAllText(_file, lists.ToJsonString());
        Assert.Contains("no entities", Assert.Throws<InputException>(() => ClueVocabulary.Load(_file)).Message);
        lists = Embedded();
        lists["english"]![ClueVocabulary.Default.Entities[0]] = null;
        File.WriteAllText(_file, lists.ToJsonString());
        Assert.Contains(ClueVocabulary.Default.Entities[0], Assert.Throws<InputException>(() => ClueVocabulary.Load(_file)).Message);
    }
}
