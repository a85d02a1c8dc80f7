using System.Text.Json;
using Pcrl.Train.Text.Segmentation;

namespace Pcrl.Parity.Tests;

/// <summary>jieba_cut: every sentence, with and without the hidden Markov model.</summary>
internal static class JiebaGolden
{
    public static void Run(GoldenCase golden)
    {
        var dictionary = JiebaDictionary.LoadDefault();
        var withModel = new JiebaSegmenter(dictionary, HiddenMarkovModel.LoadDefault());
        var without = new JiebaSegmenter(dictionary, model: null);
        using var cases = JsonDocument.Parse(File.ReadAllBytes(Path.Combine(golden.Folder, "cases.json")));
        foreach (var sentence in cases.RootElement.EnumerateArray())
        {
            string text = sentence.GetProperty("text").GetString()!;
            Assert.Equal(Words(sentence, "hmm"), withModel.Cut(text));
            Assert.Equal(Words(sentence, "no_hmm"), without.Cut(text));
        }
    }

    private static string[] Words(JsonElement sentence, string mode) => [.. sentence.GetProperty(mode).EnumerateArray().Select(w => w.GetString()!)];
}
