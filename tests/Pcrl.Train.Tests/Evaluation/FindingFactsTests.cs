using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Tests.Evaluation;

public class FindingFactsTests
{
    [Fact]
    public void TextsOfPhantomsSayExactlyWhatWasDrawn()
    {
        // The composer alone, over many more truths than could be drawn as pictures.
        for (ulong seed = 0; seed < 6000; seed++)
        {
            PhantomTruth truth = PlannedTruth(seed);
            string text = PhantomText.Compose(truth, new PhantomRandom(seed, 4));
            Assert.True(truth.Facts.Equals(FindingFacts.Parse(text)), $"seed {seed}: {text}\n{truth.Facts}\n{FindingFacts.Parse(text)}");
            Assert.InRange(text.Length, 30, 240);
        }
        for (ulong seed = 0; seed < 60; seed++)
        {
            Phantom phantom = PhantomGenerator.Create(seed, new PhantomOptions { ImageSize = 32 });
            Assert.Equal(phantom.Truth.Facts, FindingFacts.Parse(phantom.Findings));
        }
    }

    [Fact]
    public void TextsVaryAndNameTheEntities()
    {
        var texts = Enumerable.Range(0, 2000).Select(i => PhantomText.Compose(PlannedTruth((ulong)i), new PhantomRandom((ulong)i, 4))).ToList();
        Assert.True(texts.Distinct().Count() > 1900);
        string[] entities =
        [
            "上颌窦", "筛窦", "蝶窦", "第四脑室", "脑干", "小脑", "小脑半球", "额叶", "颞叶", "枕叶", "中脑", "丘脑", "侧脑室", "第三脑室", "小脑幕", "中线",
            "基底节区", "大脑镰", "放射冠", "顶叶", "脑沟", "脑室", "半卵圆中心", "脑实质", "脑回", "颞枕叶",
        ];
        foreach (string entity in entities) Assert.Contains(texts, t => t.Contains(entity));
    }

    public static TheoryData<string, string> Readings => new()
    {
        { "", "[]" },
        { "左侧额叶见片状高密度影，周围见低密度水肿带。中线结构向右侧移位。", "[Left Frontal Haemorrhage] shift-Right" },
        { "双侧大脑半球对称，两侧基底节区可见斑点状低密度灶，脑沟、脑裂增宽，中线结构居中。", "[Both BasalGanglia Infarct] atrophy" },
        { "脑实质内未见异常高密度影，脑室、脑沟未见扩大。", "[]" },
        { "右侧颞叶、左侧枕叶见低密度影。", "[Right Temporal Infarct, Left Occipital Infarct]" },
        { "右侧额颞叶见大片状低密度影，右侧侧脑室受压变窄，中线左移。", "[Right Frontal Infarct, Right Temporal Infarct] shift-Left" },
        { "左侧顶部颅板下见梭形高密度影。", "[Left Parietal Epidural]" },
        { "右侧额颞顶部颅骨内板下新月形高密度影，邻近脑沟变浅。", "[Right Convexity Subdural]" },
        { "双侧侧脑室后角内见高密度积血影。脑室系统扩大。", "[Both None Intraventricular] ventricles" },
        { "左侧外侧裂池及脑沟密度增高。", "[Left None Subarachnoid]" },
        { "双侧侧脑室旁脑白质密度减低，脑室扩张，脑沟加深，脑回变小。", "[] ventricles atrophy white-matter" },
        { "桥脑见小片状低密度影，右侧小脑半球见软化灶。", "[Midline BrainStem Infarct, Right Cerebellum Softening]" },
        { "左颢叶可见钙化，边界清楚。右侧上颌窦粘膜增厚。", "[Left Temporal Calcification] sinusitis-Right" },
        { "双侧上颌窦、筛窦及蝶窦透光良好。小脑幕未见增厚。", "[]" },
        { "左侧大脑半球见大片状低密度灶，中线结构局部右偏。", "[Left None Infarct] shift-Right" },
        { "余双侧额叶、丘脑未见异常密度。双侧脑室、脑池及脑沟扩大。", "[] ventricles atrophy" },
    };

    [Theory]
    [MemberData(nameof(Readings))]
    public void ReadsOtherWordings(string text, string facts) => Assert.Equal(facts, FindingFacts.Parse(text).ToString());

    [Fact]
    public void ScoresCountWhatTheySay()
    {
        const string Bleed = "左侧额叶见高密度影。脑室扩大。", Other = "左侧额叶见低密度影。", Normal = "脑实质未见异常密度。";
        FindingScore score = FindingScore.Of([(Bleed, Bleed), (Bleed, Other), (Normal, Normal), (Normal, Other)]);
        Assert.Equal(2, score.LesionCases);
        Assert.Equal(0.5, score.MainLesion);
        Assert.Equal(1, score.MainSide);
        Assert.Equal(0.5, score.MainKind);
        Assert.Equal(0.75, score.Ventricles);
        Assert.Equal(0.5, score.FalseLesions);
        Assert.Equal(0.75, score.Distinct);
        Assert.Equal(Normal, FindingScore.Commonest([Bleed, Normal, "双侧大脑半球对称。"]));
        FindingScore baseline = FindingScore.Of([(Bleed, Normal), (Bleed, Normal), (Normal, Normal), (Normal, Normal)]);
        string table = score.Table(baseline);
        Assert.Contains("50.0 %", table);
        Assert.Contains("baseline", table);
    }

    /// <summary>The truth a plan would have if everything in it were visible.</summary>
    private static PhantomTruth PlannedTruth(ulong seed)
    {
        PhantomPlan plan = PhantomPlan.Draw(seed, 0.5f);
        List<PhantomLesion> lesions =
        [
            .. plan.Lesions.Select(l => new PhantomLesion(
                l.Fact, (LesionSize)(seed % 3), l.LongSide, l.Density, l.Blobs.Count > 1, l.Oedema > 0, 1)),
        ];
        MidlineShift shift = plan.ShiftMm == 0 ? MidlineShift.None : plan.ShiftDirection > 0 ? MidlineShift.Left : MidlineShift.Right;
        var facts = new FindingFacts([.. lesions.Select(l => l.Fact)], plan.VentriclesEnlarged, plan.Atrophy, shift, plan.WhiteMatter, plan.Sinusitis);
        return new PhantomTruth(facts, lesions, plan.ShiftMm, plan.ShiftMm > 0, [], []);
    }
}
