using System.Text;
using Pcrl.Runtime;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Tests.Evaluation;

public sealed class ReportFileTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-reports-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string File(string name, string content) => File(name, Encoding.UTF8.GetBytes(content));

    private string File(string name, byte[] content)
    {
        string path = Path.Combine(_folder, name);
        System.IO.File.WriteAllBytes(path, content);
        return path;
    }

    private string Refusal(string name, string content) => Refusal(File(name, content));

    private static string Refusal(string path)
    {
        string message = Assert.Throws<InputException>(() => ReportFile.Read(path)).Message;
        Assert.DoesNotContain('\n', message);
        Assert.StartsWith(path, message);
        return message;
    }

    [Theory]
    [InlineData("a.json", "[{\"id\":\"1\",\"findings\":\"甲\",\"impression\":\"x\"},{\"id\":2,\"findings\":\"乙\"}]")]
    [InlineData("a.json", "{\"1\":\"甲\",\"2\":[\"乙\"]}")]
    [InlineData("a.jsonl", "{\"id\":\"1\",\"report\":\"甲\"}\n{\"id\":2,\"report\":\"乙\"}\n")]
    [InlineData("b.jsonl", "\uFEFF{\"image_id\":1,\"caption\":\"甲\"} {\"image_id\":2,\"caption\":\"乙\"}")]
    [InlineData("a.csv", "\uFEFFid,report\r\n1,甲\r\n\"2\",\"乙\"\r\n")]
    [InlineData("b.csv", "report,age,id\n甲,3,1\n乙,,2")]
    [InlineData("a.tsv", "study\ttext\n1\t甲\n2\t乙\n")]
    public void Reads_every_format(string name, string content)
    {
        var records = ReportFile.Read(File(name, content));
        Assert.Equal([("1", "甲"), ("2", "乙")], records.Select(r => (r.Id, Assert.Single(r.Texts))));
    }

    [Fact]
    public void Quoted_fields_hold_anything()
    {
        var record = Assert.Single(ReportFile.Read(File("q.csv", "id,text\n1,\"a,\"\"b\"\"\nc\"\n")));
        Assert.Equal("a,\"b\"\nc", record.Texts[0]);
    }

    [Fact]
    public void Records_may_straddle_the_buffer()
    {
        var lines = new StringBuilder("[");
        for (int i = 0; i < 4000; i++)
            lines.Append(i == 0 ? "" : ",\n").Append($"{{\"id\":{i},\"report\":\"{new string('脑', i % 90)}\"}}");
        var records = ReportFile.Read(File("many.json", lines.Append(']').ToString()));
        Assert.Equal(4000, records.Count);
        Assert.Equal(89, records[89].Texts[0].Length);
    }

    [Theory]
    [InlineData("a.json", "", "holds no reports")]
    [InlineData("a.json", "[]", "holds no reports")]
    [InlineData("a.json", "[{\"id\":\"1\",\"report\":\"甲\"},\n{\"id\":\"2\",\"rep", "line 2 is not JSON")]
    [InlineData("a.json", "hello", "line 1 is not JSON")]
    [InlineData("a.json", "[1,2]", "record 1 is not a JSON object")]
    [InlineData("a.json", "[{\"report\":\"甲\",\"age\":3}]", "record 1 has no id")]
    [InlineData("a.json", "[{\"id\":\"1\",\"raport\":\"甲\"}]", "record 1 has no text")]
    [InlineData("a.json", "[{\"id\":\"1\",\"report\":7}]", "record 1 has a text that is neither")]
    [InlineData("a.json", "[{\"id\":{},\"report\":\"甲\"}]", "record 1 has an id that is neither")]
    [InlineData("a.json", "[{\"id\":\"1\",\"report\":\"\\ud800\"}]", "half a surrogate pair")]
    [InlineData("a.csv", "name,report\n1,甲\n", "line 1 must name a column")]
    [InlineData("a.csv", "id,report\n1,甲\n2\n", "ends on line 3 has 1 fields, expected 2")]
    [InlineData("a.csv", "id,report\n1,\"甲\n", "quote opened on line 2")]
    [InlineData("a.csv", "id,report\n1,\"甲\"x\n", "line 2 has text after a closing quote")]
    public void Broken_files_are_refused_in_one_line(string name, string content, string problem) => Assert.Contains(problem, Refusal(name, content));

    [Theory]
    [InlineData("a.jsonl")]
    [InlineData("a.csv")]
    public void Invalid_utf8_is_named_by_line(string name)
    {
        byte[] start = Encoding.UTF8.GetBytes(name == "a.csv" ? "id,text\n1,甲\n2," : "{\"id\":1,\n\"text\":\"甲\"}\n{\"id\":2,\"text\":\"");
        Assert.Contains($"line 3 is not valid UTF-8", Refusal(File(name, [.. start, 0xE6, 0x94, (byte)'x', (byte)'\n'])));
        Assert.Contains($"line 3 is not valid UTF-8", Refusal(File(name, [.. start, 0xE6, 0x94]))); // cut off in the middle of a character
    }

    [Fact]
    public void Characters_on_the_border_of_two_reads_are_no_error()
    {
        // A prefix of 0 to 3 bytes moves the border of the 64 KiB buffers through a three-byte character.
        for (int shift = 0; shift < 4; shift++)
        {
            string id = new string('x', shift) + "1";
            string text = string.Join(",", Enumerable.Repeat($"\"{new string('脑', 3000)}\"", 20));
            Assert.Equal(20, Assert.Single(ReportFile.Read(File("border.json", $"[{{\"id\":\"{id}\",\"references\":[{text}]}}]"))).Texts.Count);
        }
    }

    [Fact]
    public void Absurd_lengths_are_refused()
    {
        Assert.Contains("more than 4000 characters", Refusal("long.json", $"[{{\"id\":1,\"text\":\"{new string('脑', 4001)}\"}}]"));
        Assert.Contains("larger than 16 MB", Refusal("huge.json", $"[{{\"id\":1,\"text\":\"{new string('x', 17 << 20)}"));
        Assert.Contains("is not JSON", Refusal("deep.json", new string('[', 100_000)));
        Assert.Contains("larger than 16 MB", Refusal("huge.csv", $"id,text\n1,{new string('x', 17 << 20)}"));
    }

    [Fact]
    public void What_is_no_file_is_refused()
    {
        Refusal(_folder);
        Refusal(Path.Combine(_folder, "absent.json"));
        Refusal("/dev/null");
        Assert.Contains("line 1 is not JSON", Refusal("/dev/zero"));
        Assert.Contains("name is empty", Assert.Throws<InputException>(() => ReportFile.Read("")).Message);
    }
}
