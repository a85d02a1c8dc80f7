using System.Text.Json;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Text.Segmentation;

namespace Pcrl.Parity.Tests;

/// <summary>nlg_metrics: tokens, and BLEU, ROUGE-L, CIDEr and both METEOR variants, for the set and for every item.</summary>
internal static class MetricsGolden
{
    public static void Run(GoldenCase golden)
    {
        var segmenter = new JiebaSegmenter(JiebaDictionary.LoadDefault(), HiddenMarkovModel.LoadDefault());
        using var pairs = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(golden.Folder, "pairs.json")));
        using var expected = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(golden.Folder, "expected.json")));
        JsonElement[] items = [.. pairs.RootElement.EnumerateArray()];
        foreach (var (key, tokenisation) in new[]
        {
            ("jieba", Tokenisation.Jieba(segmenter)),
            ("jieba_nopunct", Tokenisation.JiebaWithoutPunctuation(segmenter)),
            ("char", Tokenisation.Characters),
        })
        {
            foreach (var item in items)
                Assert.Equal(item.GetProperty(key).GetProperty("hyp").GetString(), string.Join(' ', tokenisation.Cut(item.GetProperty("hyp").GetString()!)));
            var metrics = new TextMetrics(tokenisation, [.. items.Select(References)]);
            Compare(golden, $"{key}: ", metrics.Score([.. items.Select(item => item.GetProperty("hyp").GetString()!)]), expected.RootElement.GetProperty(key));
        }
    }

    private static IReadOnlyList<string> References(JsonElement item) => [.. item.GetProperty("refs").EnumerateArray().Select(r => r.GetString()!)];

    private static void Compare(GoldenCase golden, string what, IReadOnlyList<Measure> measures, JsonElement expected)
    {
        var bleu = expected.GetProperty("bleu");
        for (int order = 0; order < 4; order++)
            Check($"BLEU-{order + 1}", bleu.GetProperty("corpus")[order], bleu.GetProperty("per_item")[order]);
        Check("ROUGE-L", expected.GetProperty("rouge_l").GetProperty("corpus"), expected.GetProperty("rouge_l").GetProperty("per_item"));
        Check("CIDEr", expected.GetProperty("cider").GetProperty("corpus"), expected.GetProperty("cider").GetProperty("per_item"));
        foreach (var (name, key) in new[] { ("METEOR", "en_norm"), ("METEOR-raw", "en_raw") })
        {
            var meteor = expected.GetProperty("meteor").GetProperty(key);
            Check(name, meteor.GetProperty("corpus_from_summed_stats"), meteor.GetProperty("per_item"));
            Check(name + "-mean", meteor.GetProperty("mean_of_segments"), meteor.GetProperty("per_item"));
        }

        void Check(string name, JsonElement corpus, JsonElement perItem)
        {
            var measure = measures.Single(m => m.Names.Contains(name));
            int score = measure.Names.ToList().IndexOf(name);
            Close(what + name, corpus.GetDouble(), measure.Total()[score]);
            Assert.Equal(perItem.GetArrayLength(), measure.Items);
            for (int i = 0; i < measure.Items; i++)
                Close($"{what}{name}[{i}]", perItem[i].GetDouble(), measure.OfItem(i)[score]);
        }

        void Close(string name, double want, double got) =>
            Assert.True(Math.Abs(got - want) <= golden.AbsoluteTolerance + golden.RelativeTolerance * Math.Abs(want), $"{name} is {got:R}, expected {want:R}");
    }
}
