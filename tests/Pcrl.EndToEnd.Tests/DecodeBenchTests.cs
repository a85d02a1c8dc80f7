using System.Text.Json;

namespace Pcrl.EndToEnd.Tests;

/// <summary><c>bench decode</c>: what it prints, and that a model in a larger shape writes the small one's text.</summary>
public sealed class DecodeBenchTests
{
    private static PcrlProcess Decode(params string[] arguments) => PcrlProcess.RunTool("pcrl-bench", ["decode", Repository.Sample("ct-ich-122"), "--threads", "1", .. arguments]);

    private static JsonElement Json(params string[] arguments)
    {
        var run = Decode(["--texts", "2", "--max-tokens", "24", "--temperature", "0", "--json", .. arguments]);
        Assert.True(run.ExitCode == 0, run.Error);
        return JsonDocument.Parse(run.Output).RootElement;
    }

    [Fact]
    public void A_model_in_a_larger_shape_writes_the_same_text_at_its_own_cost()
    {
        var small = Json("--parallel", "2", "--drafts", "3", "7");
        var large = Json("--shape", "40m", "--parallel", "0");
        Assert.NotEqual("", small.GetProperty("first_text").GetString());
        Assert.Equal(small.GetProperty("first_text").GetString(), large.GetProperty("first_text").GetString());
        Assert.Equal("40m", large.GetProperty("shape").GetString());

        string[] ways = [.. small.GetProperty("rows").EnumerateArray().Select(row => row.GetProperty("way").GetString()!)];
        Assert.Equal(["llama.cpp loop", "plain", "speculative, drafts up to 3", "speculative, drafts up to 7"], ways);
        foreach (string ratio in (string[])["speedup_vs_llamacpp", "plain_vs_llamacpp", "first_token_vs_prefill", "parallel_speedup_vs_llamacpp", "parallel_vs_one_by_one"])
            Assert.True(small.GetProperty(ratio).GetDouble() > 0, ratio);
        Assert.Equal(3, small.GetProperty("together").GetArrayLength());
        Assert.Equal(JsonValueKind.Null, large.GetProperty("parallel_vs_one_by_one").ValueKind);
        Assert.Contains("2 of 2 the same; with 2 at once: 2 of 2", small.GetProperty("same_texts").GetString());
        // One row of 38 million weights cannot be as fast as one of less than a million.
        double Row(JsonElement result) => result.GetProperty("batches")[0].GetProperty("milliseconds").GetDouble();
        Assert.True(Row(large) > Row(small));
    }

    [Theory]
    [InlineData("--shape", "9b")]
    [InlineData("--texts", "0")]
    [InlineData("--texts", "2000000000")]
    [InlineData("--max-tokens", "1")]
    [InlineData("--parallel", "1")]
    [InlineData("--parallel", "31")]
    [InlineData("--drafts", "0")]
    [InlineData("--device", "opencl")]
    [InlineData("--bundle", "nowhere")]
    [InlineData("--threads", "-4")]
    [InlineData("--seed", "-1")]
    public void An_option_out_of_range(string option, string value) => Decode(option, value).AssertOneLineError();
}
