using System.Text;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Data;

/// <summary>
/// Words the truth as a Chinese findings text. Every fact has several wordings; nothing is stated that was not drawn, and a normal structure is
/// only called normal when no lesion touches it.
/// </summary>
internal static class PhantomText
{
    private static readonly Dictionary<BrainRegion, string> Names = new()
    {
        [BrainRegion.Frontal] = "额叶", [BrainRegion.Temporal] = "颞叶", [BrainRegion.Parietal] = "顶叶", [BrainRegion.Occipital] = "枕叶",
        [BrainRegion.BasalGanglia] = "基底节区", [BrainRegion.Thalamus] = "丘脑", [BrainRegion.CoronaRadiata] = "放射冠",
        [BrainRegion.CentrumSemiovale] = "半卵圆中心", [BrainRegion.Cerebellum] = "小脑半球", [BrainRegion.BrainStem] = "脑干",
        [BrainRegion.Convexity] = "额颞顶部", [BrainRegion.None] = "",
    };

    /// <summary>How a region is called; empty for none.</summary>
    public static string NameOf(BrainRegion region) => Names[region];

    public static string Compose(PhantomTruth truth, PhantomRandom random)
    {
        FindingFacts facts = truth.Facts;
        var sentences = new List<string>();
        var touched = facts.Lesions.Select(l => l.Region).ToHashSet();

        var first = new StringBuilder();
        if (!truth.MassEffect && random.Chance(0.65)) first.Append(random.Pick("双侧大脑半球对称，", "双侧大、小脑半球对称，", "两侧大脑半球对称，", "两侧大脑半球大致对称，"));
        if (facts.Lesions.Count == 0)
        {
            first.Append(random.Pick(
                "脑实质内未见明显异常密度影。", "脑实质内未见局灶性密度异常。", "双侧额叶、颞叶、顶叶及枕叶未见异常密度影。",
                "双侧基底节区、丘脑及脑实质未见明显异常密度灶。", "脑实质密度均匀，灰白质分界清晰。"));
        }
        for (int i = 0; i < truth.Lesions.Count; i++)
        {
            first.Append(Lesion(truth.Lesions[i], truth, i == 0, random));
            first.Append('。');
        }
        sentences.Add(first.ToString());

        // A lesion of brain stem or cerebellum leaves no word for the hindbrain: say something of the rest.
        bool hind = touched.Contains(BrainRegion.Cerebellum) || touched.Contains(BrainRegion.BrainStem), hindOnly = hind && facts.Lesions.Count == 1;
        if (facts.WhiteMatter)
            sentences.Add(random.Pick("双侧侧脑室旁脑白质密度减低", "侧脑室周围白质见对称性密度减低", "双侧脑室旁脑白质见片状密度减低区", "两侧侧脑室旁白质密度降低"));
        if (facts.Lesions.Count > 0 && (random.Chance(0.5) || hindOnly)) sentences.Add(RestNormal(touched, random));

        var structure = new List<string> { Ventricles(facts, truth, random), Sulci(facts, truth, random), Midline(facts, random) };
        if (random.Chance(0.4)) structure.Reverse();
        else if (random.Chance(0.4)) (structure[0], structure[1]) = (structure[1], structure[0]);
        sentences.Add(string.Join(random.Chance(0.75) ? "，" : "；", structure));

        if (!hind && (random.Chance(0.7) || sentences.Sum(s => s.Length) < 50))
            sentences.Add(random.Pick("脑干及小脑未见明显异常", "小脑、脑干未见异常密度影", "幕下小脑半球及脑干形态、密度正常", "中脑、脑干及双侧小脑半球未见异常"));
        if (facts.Sinusitis is { } side) sentences.Add(Sinus(side, random));
        else if (random.Chance(0.18)) sentences.Add(random.Pick("双侧上颌窦、筛窦、蝶窦透光正常", "所示上颌窦、筛窦及蝶窦未见异常密度"));

        var text = new StringBuilder();
        foreach (string s in sentences)
        {
            text.Append(s);
            if (!s.EndsWith('。')) text.Append('。');
        }
        return text.ToString();
    }

    public static IReadOnlyList<string> KeyPhrases(FindingFacts facts, IReadOnlyList<PhantomLesion> lesions)
    {
        var phrases = new List<string>();
        foreach (PhantomLesion l in lesions)
        {
            string kind = l.Fact.Kind switch
            {
                LesionKind.Haemorrhage => "高密度", LesionKind.Infarct => "低密度", LesionKind.Softening => "软化灶", LesionKind.Calcification => "钙化",
                LesionKind.Subdural => "硬膜下", LesionKind.Epidural => "硬膜外", LesionKind.Subarachnoid => "蛛网膜下腔出血", _ => "脑室积血",
            };
            string size = l.Size switch { LesionSize.Small => "小", LesionSize.Medium => "中", _ => "大" };
            phrases.Add(string.Join(' ', new[] { SideWord(l.Fact.Side), Names[l.Fact.Region], kind, size }.Where(w => w != "")));
        }
        if (lesions.Count == 0) phrases.Add("未见病灶");
        phrases.Add(facts.VentriclesEnlarged ? "脑室扩大" : "脑室正常");
        phrases.Add(facts.Atrophy ? "脑沟增宽" : "脑沟正常");
        phrases.Add(facts.Midline switch { MidlineShift.Left => "中线左移", MidlineShift.Right => "中线右移", _ => "中线居中" });
        if (facts.WhiteMatter) phrases.Add("脑室旁白质低密度");
        if (facts.Sinusitis is { } s) phrases.Add($"{SideWord(s)} 上颌窦炎症");
        return phrases;
    }

    private static string SideWord(Side side) => side switch { Side.Left => "左侧", Side.Right => "右侧", Side.Both => "双侧", _ => "" };

    private static string SideWord(Side side, PhantomRandom random) => side == Side.Both ? random.Pick("双侧", "两侧") : SideWord(side);

    private static string Lesion(PhantomLesion lesion, PhantomTruth truth, bool main, PhantomRandom random)
    {
        string side = SideWord(lesion.Fact.Side, random), region = Names[lesion.Fact.Region];
        string see = random.Pick("见", "可见", "内见", "可见");
        var text = new StringBuilder();
        string many = lesion.Multiple ? "多发" : "";
        string shape = lesion.Multiple ? random.Pick("斑点状", "小斑片状", "点片状") : lesion.Size switch
        {
            LesionSize.Small => random.Pick("小片状", "小斑片状", "结节状"),
            LesionSize.Medium => random.Pick("片状", "斑片状", "类圆形"),
            _ => random.Pick("大片状", "团片状", "大片状"),
        };
        switch (lesion.Fact.Kind)
        {
            case LesionKind.Haemorrhage:
                text.Append($"{side}{region}{see}{many}{shape}{random.Pick("高密度影", "高密度灶", "高密度影")}");
                if (random.Chance(0.35)) text.Append(random.Pick("，边界清楚", "，边缘尚清", "，密度较均匀"));
                if (lesion.Oedema) text.Append(random.Pick("，周围见低密度水肿带", "，周围可见水肿带", "，灶周见环形低密度水肿区"));
                break;
            case LesionKind.Infarct:
                text.Append($"{side}{region}{see}{many}{shape}{random.Pick("低密度影", "密度减低影", "稍低密度影", "低密度灶")}");
                text.Append(random.Pick("，边缘模糊", "，边界欠清", "，境界不清", ""));
                break;
            case LesionKind.Softening:
                text.Append($"{side}{region}{see}{shape}{random.Pick("脑脊液样低密度影", "脑脊液密度影，考虑软化灶", "软化灶")}");
                text.Append(random.Pick("，边界清楚", "，边缘清晰", ""));
                break;
            case LesionKind.Calcification:
                text.Append($"{side}{region}{see}{random.Pick("结节状", "斑点状", "小片状")}{random.Pick("钙化影", "致密钙化灶", "钙化灶")}");
                break;
            case LesionKind.Subdural:
                text.Append($"{side}{region}{random.Pick("颅板下", "颅骨内板下")}{random.Pick("见", "可见")}{random.Pick("新月形高密度影", "弧形、新月形高密度影")}");
                if (truth.MassEffect && main) text.Append(random.Pick("，邻近脑实质受压", "，邻近脑沟受压变浅"));
                break;
            case LesionKind.Epidural:
                text.Append($"{side}{region[..1]}部{random.Pick("颅板下", "颅骨内板下")}{random.Pick("见", "可见")}{random.Pick("梭形高密度影", "双凸透镜形高密度影", "梭形高密度影")}");
                text.Append(random.Pick("，边界清楚", "，内缘光整", ""));
                break;
            case LesionKind.Subarachnoid:
                text.Append(side + random.Pick("脑沟、脑池内见高密度影", "脑沟及侧裂池内见线样高密度影", "脑沟、脑裂内可见条片状高密度影", "侧裂池及邻近脑沟密度增高"));
                break;
            default:
                text.Append(side + random.Pick("侧脑室内见高密度影", "侧脑室后角见高密度积血影", "侧脑室内可见高密度液平"));
                break;
        }
        if (main && truth.MassEffect && lesion.Fact.Kind is LesionKind.Haemorrhage or LesionKind.Infarct && random.Chance(0.7))
            text.Append(random.Pick("，占位效应明显", $"，{SideWord(lesion.Fact.Side)}侧脑室受压变窄", "，邻近脑组织受压"));
        return text.ToString();
    }

    private static string RestNormal(HashSet<BrainRegion> touched, PhantomRandom random)
    {
        if (random.Chance(0.5))
            return random.Pick("余脑实质内未见明显异常密度", "余脑实质密度未见异常", "其余脑实质未见明显局灶性密度异常");
        BrainRegion[] order =
        [
            BrainRegion.Frontal, BrainRegion.Temporal, BrainRegion.Parietal, BrainRegion.Occipital, BrainRegion.BasalGanglia, BrainRegion.Thalamus,
            BrainRegion.CoronaRadiata, BrainRegion.CentrumSemiovale,
        ];
        var free = order.Where(r => !touched.Contains(r)).ToList();
        int start = random.Below(free.Count - 2), count = random.Pick(2, 3);
        if (!touched.Contains(BrainRegion.Temporal) && !touched.Contains(BrainRegion.Occipital) && random.Chance(0.2)) return "余双侧颞枕叶密度未见异常";
        return $"余双侧{string.Join('、', free.Skip(start).Take(count).Select(r => Names[r]))}未见{random.Pick("异常密度影", "明显异常密度")}";
    }

    private static string Ventricles(FindingFacts facts, PhantomTruth truth, PhantomRandom random) => facts.VentriclesEnlarged
        ? random.Pick("双侧侧脑室、第三脑室扩大", "双侧侧脑室扩张", "脑室系统扩大", "各脑室扩大", "第三脑室及双侧侧脑室扩张")
        : random.Pick("各脑室大小、形态正常", "脑室未见扩张", "第三脑室、第四脑室及侧脑室未见扩大", "双侧侧脑室大小正常", "脑室系统无扩大");

    private static string Sulci(FindingFacts facts, PhantomTruth truth, PhantomRandom random) => facts.Atrophy
        ? random.Pick("脑沟、脑裂增宽加深", "脑沟、脑池增宽，脑回变小", "脑沟、脑裂及脑池增宽", "脑沟增宽、加深，脑回变窄")
        : random.Pick("脑沟、脑裂未见增宽", "脑沟、脑池大小形态正常", "脑沟、脑回形态正常", "脑沟、脑裂大小、形态未见异常");

    private static string Midline(FindingFacts facts, PhantomRandom random) => facts.Midline switch
    {
        MidlineShift.None => random.Pick("中线结构居中", "中线结构无移位", "中线居中", "大脑镰居中，中线结构无移位", "中线结构居中", "大脑镰、小脑幕未见增厚，中线结构居中"),
        MidlineShift.Left => random.Pick("中线结构左移", "中线结构向左侧移位", "大脑镰及中线结构向左移位"),
        _ => random.Pick("中线结构右移", "中线结构向右侧移位", "大脑镰及中线结构向右移位"),
    };

    private static string Sinus(Side side, PhantomRandom random) =>
        SideWord(side, random) + random.Pick("上颌窦粘膜增厚", "上颌窦内见软组织密度影", "上颌窦黏膜增厚");
}
