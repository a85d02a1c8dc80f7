using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Fitting;
using Pcrl.Train.Losses;
using Pcrl.Train.Text;

namespace Pcrl.Train.Tests.Fitting;

/// <summary>Four people made of the two CT-ICH scans that the repository ships, one of which bleeds.</summary>
[Collection("torch")]
public sealed class RealScanTrainingTests : IDisposable
{
    private static readonly FitConfig Two = new() { Steps = 2, Batch = 4 };

    private static readonly RunConfig Tiny = TrainingPipelineTests.Tiny with
    {
        TrunkFit = new TrunkFitConfig { Steps = 2, Batch = 4 },
        ScanFit = new ScanFitConfig { Steps = 2, Batch = 4, Cells = false, ScanWeight = 5, Views = 4 },
        LanguageFit = Two,
        Loss = new LossConfig(),
        JointFit = new JointFitConfig { Steps = 2, Batch = 4 },
    };

    private readonly string _scans = Directory.CreateTempSubdirectory("pcrl-scans-").FullName, _run = Directory.CreateTempSubdirectory("pcrl-run-").FullName;

    public RealScanTrainingTests()
    {
        var lines = new List<string> { "patient,slice,intraventricular,intraparenchymal,subarachnoid,epidural,subdural,no_hemorrhage,fracture" };
        foreach (var (patient, sample, bleeds) in new[] { ("1", "050", true), ("2", "122", false), ("3", "050", true), ("4", "122", false) })
        {
            string folder = Path.Combine(_scans, patient);
            Directory.CreateDirectory(folder);
            foreach (string picture in Directory.GetFiles(Sample($"ct-ich-{sample}"), "*.jpg"))
            {
                File.Copy(picture, Path.Combine(folder, Path.GetFileName(picture)));
                int number = int.Parse(Path.GetFileNameWithoutExtension(picture));
                bool blood = bleeds && number is >= 10 and <= 20;
                lines.Add($"{patient},{number},0,{(blood ? 1 : 0)},0,0,0,{(blood ? 0 : 1)},0");
            }
        }
        File.WriteAllLines(Path.Combine(_scans, "labels.csv"), lines);
    }

    public void Dispose()
    {
        Directory.Delete(_scans, recursive: true);
        Directory.Delete(_run, recursive: true);
    }

    [Fact]
    public void Scans_change_trunk_language_and_reports_and_leave_the_phantoms_trunk_as_it_is()
    {
        TrainingPipeline.Run(Tiny, new RunFolder(_run), null, false, [], new Stages(), default);
        byte[] phantomsOnly = File.ReadAllBytes(Path.Combine(_run, "model.safetensors"));
        var stages = new Stages();
        TrainingPipeline.Run(Tiny, new RunFolder(_run), _scans, false, [], stages, default);
        Assert.Equal(["language", "held-out", "scans", "views", "features", "fit", "features", "write"], stages.Names);
        Assert.NotEqual(phantomsOnly, File.ReadAllBytes(Path.Combine(_run, "model.safetensors")));
        Assert.Contains("4 scans of CT-ICH", (string?)new RunFolder(_run).ReadMetrics()["data"]);
    }

    [Fact]
    public void A_limit_on_the_studies_that_would_cut_the_scans_off_is_refused()
    {
        var few = Tiny with { JointFit = Tiny.JointFit with { Studies = 4 } };
        Assert.Contains("joint_fit.studies", Assert.Throws<Pcrl.Runtime.InputException>(() =>
            TrainingPipeline.Run(few, new RunFolder(_run), _scans, false, [], new Stages(), default)).Message);
        Assert.Contains("joint_fit.studies", Assert.Throws<Pcrl.Runtime.InputException>(() =>
            CrossValidation.Run(few, new RunFolder(_run), _scans, 2, new Lines(_ => { }), new Stages(), default)).Message);
        Assert.Empty(Directory.GetFileSystemEntries(_run));
    }

    [Fact]
    public void Every_person_is_held_out_once_and_the_same_seed_gives_the_same_figures()
    {
        var folds = new List<string>();
        var cases = CrossValidation.Run(Tiny, new RunFolder(_run), _scans, 2, new Lines(folds.Add), new Stages(), default);
        Assert.Equal(2, folds.Count);
        Assert.Contains("4 scans, too few for 5 parts", Assert.Throws<Pcrl.Runtime.InputException>(() =>
            CrossValidation.Run(Tiny, new RunFolder(_run), _scans, 5, new Lines(_ => { }), new Stages(), default)).Message);
        Assert.Equal(["1", "2", "3", "4"], cases.Select(c => c.Patient).Order());
        Assert.All(cases, c => Assert.Equal(c.Patient is "1" or "3", c.Bleeding));
        Assert.All(cases.GroupBy(c => c.Fold), fold => Assert.Single(fold, c => c.Bleeding));
        Assert.All(cases, c => Assert.InRange(c.Probability, 0, 1));
        var again = CrossValidation.Run(Tiny, new RunFolder(_run), _scans, 2, new Lines(_ => { }), new Stages(), default);
        Assert.Equal(cases, again);
        Assert.True(cases.Select(c => c.Trunk).Distinct().Count() > 1);

        // Other parts by another seed of the split, over the same trunk and LLM.
        bool[] bleeding = [true, false, true, false];
        int seed = Enumerable.Range(2, 20).First(s => !CrossValidation.Folds(bleeding, 2, s).SequenceEqual(CrossValidation.Folds(bleeding, 2, 1)));
        var stages = new Stages();
        var split = CrossValidation.Run(Tiny with { Data = new DataConfig { SplitSeed = seed } }, new RunFolder(_run), _scans, 2, new Lines(_ => { }), stages, default);
        Assert.Equal(CrossValidation.Folds(bleeding, 2, seed), split.OrderBy(c => c.Patient).Select(c => c.Fold));
        Assert.DoesNotContain("trunk", stages.Names);
    }

    [Fact]
    public void The_text_of_a_real_study_has_its_own_weight()
    {
        var config = Tiny with { JointFit = Tiny.JointFit with { ScanWeight = 15 } };
        var targets = new JointTargets(new Tokenizer(BytePairTrainer.Train(["颅内未见积血。"], new TokenizerConfig { Tokens = 260 })), config);
        var phantom = TrainingStudy.FromPhantom(7, new PhantomOptions { ImageSize = config.Phantoms.ImageSize }, config.Visual.ImageSize, wordings: 2);
        Assert.All(targets.Of(phantom), t => Assert.Equal(1, t.Weight));
        var views = RealStudies.Views(RealStudies.Load(_scans, config.Visual.ImageSize, default), [], config, new Stages(), default);
        Assert.All(targets.Of(views[0]), t => Assert.Equal(15, t.Weight));
        Assert.All(targets.Of(new StudySplicer(views).Next(new PhantomRandom(1)).Study), t => Assert.Equal(15, t.Weight));
    }

    private static string Sample(string name)
    {
        string? root = AppContext.BaseDirectory;
        while (root is not null && !File.Exists(Path.Combine(root, "Pcrl.sln")))
            root = Path.GetDirectoryName(root);
        return Path.Combine(root ?? throw new InvalidOperationException("the tests do not run inside the repository"), "samples", name);
    }

    private sealed class Lines(Action<string> tell) : IProgress<string>
    {
        public void Report(string value) => tell(value);
    }

    private sealed class Stages : IProgress<StageProgress>
    {
        public List<string> Names { get; } = [];

        public void Report(StageProgress value)
        {
            if (value.Done == 1 || Names.Count == 0 || Names[^1] != value.Stage)
                Names.Add(value.Stage);
        }
    }
}
