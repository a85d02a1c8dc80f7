using System.Text.Json;
using Pcrl.Runtime;
using Pcrl.Runtime.Vision;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Clues;
using Pcrl.Train.Data;
using Pcrl.Train.Fitting;
using SkiaSharp;

namespace Pcrl.Train.Tests.Data;

/// <summary>A tiny synthetic data set in CTRG-Brain's layout: pictures of phantoms, two studies of every patient.</summary>
public sealed class StudySplitTests : IDisposable
{
    private const int Studies = 20;

    private readonly string _folder = Directory.CreateTempSubdirectory("pcrl-ctrg-").FullName;

    /// <summary>24 pictures of each of the studies; the last study repeats the first one's.</summary>
    private static readonly Lazy<byte[][][]> Pictures = new(() =>
    {
        byte[][][] first = [.. Enumerable.Range(0, Studies - 1).Select(i => PicturesOf((ulong)i))];
        return [.. first, first[0]];
    });

    public StudySplitTests()
    {
        var findings = new List<object>();
        var slices = new List<object>();
        for (int i = 0; i < Studies; i++)
        {
            string id = $"s{i}", images = Path.Combine(_folder, "images", id);
            Directory.CreateDirectory(images);
            string[] names = [.. Pictures.Value[i].Select((_, n) => $"{n + 1:D2}.png")];
            foreach (var (name, picture) in names.Zip(Pictures.Value[i]))
                File.WriteAllBytes(Path.Combine(images, name), picture);
            // Every third text is the same.
            findings.Add(new { id, impression = "不读", findings = i % 3 == 0 ? "头颅CT平扫：脑沟正常。" : $"左侧额叶见{i}处低密度影。" });
            slices.Add(new { id, patient = $"p{i / 2}", slices = names });
        }
        File.WriteAllText(Path.Combine(_folder, "findings.json"), JsonSerializer.Serialize(findings));
        File.WriteAllText(Path.Combine(_folder, "slices.json"), JsonSerializer.Serialize(slices));
    }

    private static byte[][] PicturesOf(ulong seed)
    {
        var phantom = PhantomGenerator.Create(seed, new PhantomOptions { ImageSize = 64 });
        return [.. phantom.Study.Slices.Skip(1).Take(24).Select(slice =>
        {
            using var bitmap = new SKBitmap(64, 64, SKColorType.Gray8, SKAlphaType.Opaque);
            float[] pixels = slice.Pixels.ToArray();
            for (int p = 0; p < pixels.Length; p++)
            {
                byte grey = (byte)Math.Clamp(pixels[p] * 255 / 80, 0, 255);
                bitmap.SetPixel(p % 64, p / 64, new SKColor(grey, grey, grey));
            }
            return bitmap.Encode(SKEncodedImageFormat.Png, 100).ToArray();
        })];
    }

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private StudySplit Load(int seed = 1, string? clues = null) => StudySplit.Brought(
        new RunConfig
        {
            Data = new DataConfig { Source = "ctrg", Path = _folder, SplitSeed = seed, Clues = clues },
            Visual = new VisualConfig { ImageSize = 32 },
        }, new Progress<StageProgress>(), default)!;

    [Fact]
    public void Patients_are_split_seven_one_two_and_none_is_in_two_parts()
    {
        var split = Load();
        Assert.Equal((14, 2, 4), (split.Training.Count, split.Validation.Count, split.HeldOut.Count)); // 10 patients of two studies
        IReadOnlyList<TrainingStudy>[] parts = [split.Training, split.Validation, split.HeldOut];
        var patients = parts.Select(part => part.Select(s => s.Seed / 2).ToHashSet()).ToArray(); // a study's number tells its patient here
        Assert.Empty(patients[0].Intersect(patients[1].Concat(patients[2])));
        Assert.Empty(patients[1].Intersect(patients[2]));
        Assert.Equal(split.Hash, Load().Hash);
        Assert.NotEqual(split.Hash, Load(seed: 2).Hash);
        Assert.Equal(24 * 32 * 32, split.Training[0].Slices.Length);
        Assert.DoesNotContain(split.Training, s => s.Findings[0].Contains("平扫"));
    }

    [Fact]
    public void What_stands_in_two_parts_is_counted()
    {
        var split = Load();
        Assert.Contains(split.Training, s => s.Findings[0] == "脑沟正常。");
        Assert.Equal(split.HeldOut.Count(s => s.Findings[0] == "脑沟正常。"), split.Leakage.HeldOutFindings);
        Assert.Equal(split.Validation.Count(s => s.Findings[0] == "脑沟正常。"), split.Leakage.ValidationFindings);
        bool apart = split.Training.Any(s => s.Seed is 0) != split.Training.Any(s => s.Seed is Studies - 1);
        Assert.Equal(apart, split.Leakage.Slices > 0);
        Assert.Equal(2, Leakage.Count(["甲。", "乙 。"], ["乙。", "丙。", "甲。"]));
    }

    [Fact]
    public void Prepared_clues_are_read_and_a_missing_file_of_them_is_named()
    {
        string clues = Path.Combine(_folder, "clues");
        Directory.CreateDirectory(clues);
        var mask = new bool[32 * 32];
        mask[40] = true;
        for (int i = 0; i < Studies; i++)
        {
            new StudyClues
            {
                Id = $"s{i}", Content = "x", ImageSize = 32, Theme = "额叶", Entities = [new ClueEntity("额叶", "额叶见低密度影", 5, 0, 1)],
                Galleries = [.. Enumerable.Range(0, 24).Select(s => (IReadOnlyList<ClueMask>)(s == 5 ? [new ClueMask(RunLengthMask.Encode(mask, 32, 32).ToText(), 1, 1)] : []))],
            }.Save(PrepareRun.FileOf(clues, $"s{i}"));
        }
        var clue = Assert.Single(Load(clues: clues).Training[0].Clues!);
        Assert.Equal((5, "额叶见低密度影", 1), (clue.Slice, clue.Text, clue.Mask.Area));
        string third = PrepareRun.FileOf(clues, "s3"), text = File.ReadAllText(third), hash = Load(clues: clues).Hash;
        Assert.NotEqual(Load().Hash, hash);
        File.WriteAllText(third, text.Replace("额叶见低密度影", "额叶见高密度影"));
        Assert.NotEqual(hash, Load(clues: clues).Hash); // so that a fit over other clues is another fit
        foreach (var (from, to) in ((string, string)[])[("[],", "null,"), ("[{\"runs", "[null,{\"runs"), ("\"entities\":[", "\"entities\":[null,"), ("\"text\":\"", "\"text\":null,\"x\":\"")])
        {
            Assert.Contains(from, text);
            File.WriteAllText(third, text.Replace(from, to));
            Assert.Contains("s3.clues.json", Assert.Throws<InputException>(() => Load(clues: clues)).Message);
        }
        File.Delete(third);
        Assert.Contains("s3.clues.json", Assert.Throws<InputException>(() => Load(clues: clues)).Message);
    }

    [Theory]
    [InlineData("slices.json", "\"24.png\"", "\"25.png\"", "25.png")]
    [InlineData("slices.json", "\"01.png\",", "", "23 slices")]
    [InlineData("slices.json", "\"s7\"", "\"../s7\"", "no file name")]
    [InlineData("slices.json", "\"s7\"", "\"s8\"", "twice")]
    [InlineData("slices.json", "\"s7\"", "null", "not a manifest")]
    [InlineData("slices.json", "\"05.png\"", "null", "holds null")]
    [InlineData("slices.json", "[{", "[null,{", "holds null")]
    [InlineData("findings.json", "\"s7\"", "\"t7\"", "s7")]
    public void What_is_wrong_with_a_data_set_is_named(string file, string from, string to, string named)
    {
        string path = Path.Combine(_folder, file);
        string text = File.ReadAllText(path);
        int at = text.IndexOf(from, StringComparison.Ordinal);
        File.WriteAllText(path, text[..at] + to + text[(at + from.Length)..]);
        var error = Assert.Throws<InputException>(() => Load());
        Assert.Contains(named, error.Message);
        Assert.Contains(file, error.Message);
    }

    [Theory]
    [InlineData("")]
    [InlineData("胸部未见异常。")]
    public void Findings_that_say_nothing_of_the_head_are_refused(string text)
    {
        string path = Path.Combine(_folder, "findings.json");
        var findings = System.Text.Json.Nodes.JsonNode.Parse(File.ReadAllText(path))!;
        findings[7]!["findings"] = text;
        File.WriteAllText(path, findings.ToJsonString());
        Assert.Contains("nothing of the head in study s7", Assert.Throws<InputException>(() => Load()).Message);
    }

    [Fact]
    public void A_data_set_that_cannot_be_read_is_refused_before_anything_is_taught_or_written()
    {
        string run = Path.Combine(_folder, "run"), missing = Path.Combine(_folder, "nowhere");
        var config = new RunConfig { Data = new DataConfig { Source = "ctrg", Path = missing } };
        Assert.Contains(missing, Assert.Throws<InputException>(() =>
            TrainingPipeline.Run(config, new RunFolder(run), ctIch: null, resume: false, [], new Progress<StageProgress>(), default)).Message);
        Assert.False(Directory.Exists(run));
    }

    [SkippableFact]
    public void Ctrg_has_the_duplicates_that_are_known_of_it()
    {
        // The test part is not shared; train against validation is what can be counted here.
        string? folder = Shared("data/ctrg-reports");
        Skip.If(folder is null, "the shared findings of CTRG-Brain are not beside the checkout");
        string[] Texts(string part) => [.. Evaluation.ReportFileTexts(Path.Combine(folder!, part))];
        Assert.Equal(195, Leakage.Count(Texts("train.json"), Texts("validation.json"))); // as docs/training.md says
    }

    private static string? Shared(string path)
    {
        for (string? folder = AppContext.BaseDirectory; folder is not null; folder = Path.GetDirectoryName(folder))
        {
            if (Directory.Exists(Path.Combine(folder, "shared", path)))
                return Path.Combine(folder, "shared", path);
        }
        return null;
    }

    private static class Evaluation
    {
        public static IEnumerable<string> ReportFileTexts(string path) => Pcrl.Train.Evaluation.ReportFile.Read(path).Select(r => r.Texts[0]);
    }
}
