using System.Text.Json;

namespace Pcrl.EndToEnd.Tests;

/// <summary><c>bench decode</c> and <c>bench study</c>: what they print, and that a model in a larger shape writes the small one's text.</summary>
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
    [InlineData("--output", "/dev/null")]
    public void An_option_out_of_range(string option, string value) => Decode(option, value).AssertOneLineError();

    [Fact]
    public void Whole_studies_are_timed_stage_by_stage()
    {
        var run = PcrlProcess.RunTool("pcrl-bench", "study", Repository.Sample("ct-ich-122"), "--bundle", Repository.MiniBundle, "--rounds", "2", "--cold", "1", "--parallel", "2", "--soak", "3", "--json");
        Assert.True(run.ExitCode == 0, run.Error);
        var figures = JsonDocument.Parse(run.Output).RootElement;
        var stages = figures.GetProperty("stages").EnumerateArray().ToArray();
        Assert.Equal(["read and prepare", "encode", "prefill", "decode", "whole"], stages.Select(stage => stage.GetProperty("name").GetString()));
        double Of(JsonElement stage, string key) => stage.GetProperty(key).GetDouble();
        Assert.All(stages, stage => Assert.True(Of(stage, "p50") > 0 && Of(stage, "p95") >= Of(stage, "p50") && Of(stage, "p99") >= Of(stage, "p95")));
        Assert.InRange(stages[..^1].Sum(stage => Of(stage, "share")), 0, 1.001); // parts of the whole
        Assert.Equal(2, figures.GetProperty("reports").GetInt32());
        Assert.Equal(1, figures.GetProperty("cold_ms").GetArrayLength());
        foreach (string key in (string[])["studies_per_minute", "studies_per_minute_parallel", "parallel_vs_one_by_one", "parallel_vs_fresh_processes", "peak_mib"])
            Assert.True(figures.GetProperty(key).GetDouble() > 0, key);
        Assert.Equal(3, figures.GetProperty("soak").GetProperty("stops").EnumerateObject().Sum(stop => stop.Value.GetInt32()));
    }
}
