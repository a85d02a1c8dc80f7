using System.Text.RegularExpressions;
using Pcrl.Train.Clues;

namespace Pcrl.Train.Evaluation;

public sealed partial record FindingFacts
{
    // One lobe letter, several ("额颞顶部"), or a deep or posterior structure. Alternatives are tried left to right: longer names first.
    [GeneratedRegex("左侧|右侧|双侧|两侧|左|右|双|(?<lobes>[额颞顶枕](?:、?[额颞顶枕])*)(?:叶|部)|基底节区?|豆状核|尾状核|壳核|外囊|丘脑|放射冠|半卵[圆园](?:中心|区)|大脑半球|小脑(?!幕)(?:半球|蚓部)?|脑干|桥脑|脑桥|中脑|延髓")]
    private static partial Regex Place();

    [GeneratedRegex("未见|未示|未发现|未及|无明显|无异常|无扩|无增|无移|未扩|未增|正常|不宽|不大|不高|清晰$|均匀$|尚可|对称$|良好")]
    private static partial Regex Negation();

    [GeneratedRegex("^(其?周围|灶周|周边|其内|病灶|边缘|边界|境界|内缘|占位|邻近|密度)")]
    private static partial Regex Attribute();

    [GeneratedRegex("高密度|密度增高|混杂密度|致密|钙化|低密度|密度减低|密度降低|脑脊液(?:样|密度)|软化|出血|积血|血肿")]
    private static partial Regex Density();

    [GeneratedRegex("增宽|加宽|增深|加深|扩大|扩张|增大|变小|变窄")]
    private static partial Regex Widened();

    [GeneratedRegex("脑室旁|脑室周围?|室周|室旁")]
    private static partial Regex Periventricular();

    /// <summary>
    /// Reads the facts stated in a Chinese findings text, ours or a model's. A clause (between 。；，) that denies something states no lesion;
    /// a clause that only describes the lesion before it (周围…, 边缘…) adds none; a side holds for the regions after it in its clause. Whatever is not
    /// stated counts as normal, so any text, even an empty one, has facts.
    /// </summary>
    public static FindingFacts Parse(string findings)
    {
        var lesions = new List<LesionFact>();
        bool ventricles = false, atrophy = false, whiteMatter = false;
        var midline = MidlineShift.None;
        Side? sinusitis = null;
        string text = FindingsText.Clean(findings, ClueVocabulary.Default);
        foreach (string clause in FindingsText.Split(text).SelectMany(part => part.Clause.Split('：')))
        {
            if (clause.Contains("中线"))
            {
                if (Regex.IsMatch(clause, "左侧?(?:偏|移)")) midline = MidlineShift.Left;
                else if (Regex.IsMatch(clause, "右侧?(?:偏|移)")) midline = MidlineShift.Right;
                if (!Density().IsMatch(clause)) continue;
            }
            if (Negation().IsMatch(clause)) continue;
            if (clause.Contains('窦'))
            {
                if (Regex.IsMatch(clause, "增厚|软组织|增高|积液|炎|低密度|高密度")) sinusitis ??= SideOf(clause) is var s && s == Side.Midline ? Side.Both : s;
                continue;
            }
            bool dense = Density().IsMatch(clause);
            if (!dense)
            {
                if (!Widened().IsMatch(clause) || clause.Contains("受压")) continue;
                if (clause.Contains("脑室")) ventricles |= !Regex.IsMatch(clause, "变小|变窄");
                if (Regex.IsMatch(clause, "脑沟|脑裂|脑池|脑回|蛛网膜下腔|外侧裂|侧裂")) atrophy = true;
                continue;
            }
            if (Attribute().IsMatch(clause) || clause.Contains("水肿") && !Place().IsMatch(clause)) continue;
            if (Periventricular().IsMatch(clause) && Regex.IsMatch(clause, "低密度|密度减低|密度降低"))
            {
                whiteMatter = true;
                if (clause.Contains("白质")) continue;
            }
            foreach (LesionFact lesion in Lesion(clause))
                if (!lesions.Contains(lesion)) lesions.Add(lesion);
        }
        return new FindingFacts(lesions, ventricles, atrophy, midline, whiteMatter, sinusitis);
    }

    private static Side SideOf(string clause)
    {
        int left = clause.IndexOf('左'), right = clause.IndexOf('右');
        if (left >= 0 != right >= 0) return left >= 0 ? Side.Left : Side.Right;
        return left >= 0 || clause.Contains('双') && !clause.Contains("双凸") || clause.Contains('两') ? Side.Both : Side.Midline;
    }

    private static IEnumerable<LesionFact> Lesion(string clause)
    {
        bool high = Regex.IsMatch(clause, "高密度|密度增高|混杂密度|出血|积血|血肿|致密");
        if (high && Regex.IsMatch(clause, "颅板|内板|硬膜|新月|梭形|双凸"))
        {
            var kind = Regex.IsMatch(clause, "梭形|双凸|透镜|硬膜外") ? LesionKind.Epidural : LesionKind.Subdural;
            string lobes = Regex.Match(clause, "[额颞顶枕、]+(?=叶|部|颅)").Value.Replace("、", "");
            BrainRegion region = lobes.Length switch { 0 => BrainRegion.None, 1 => Lobe(lobes[0]), _ => BrainRegion.Convexity };
            return [new LesionFact(kind, region, SideOf(clause))];
        }
        if (high && !clause.Contains("钙化") && Regex.IsMatch(clause, "脑沟|脑池|脑裂|蛛网膜下腔|侧裂|环池|鞍上池"))
            return [new LesionFact(LesionKind.Subarachnoid, BrainRegion.None, SideOf(clause))];
        if (high && !clause.Contains("钙化") && clause.Contains("脑室") && !Periventricular().IsMatch(clause))
            return [new LesionFact(LesionKind.Intraventricular, BrainRegion.None, SideOf(clause))];

        LesionKind intra = Regex.IsMatch(clause, "钙化|致密") ? LesionKind.Calcification
            : Regex.IsMatch(clause, "软化|脑脊液") ? LesionKind.Softening
            : high ? LesionKind.Haemorrhage : LesionKind.Infarct;
        var found = new List<LesionFact>();
        var side = Side.Midline;
        foreach (Match m in Place().Matches(clause))
        {
            if (m.Groups["lobes"] is { Success: true } lobes)
            {
                foreach (char c in lobes.Value.Where(c => c != '、')) found.Add(new LesionFact(intra, Lobe(c), side));
                continue;
            }
            switch (m.Value[0])
            {
                case '左': side = Side.Left; continue;
                case '右': side = Side.Right; continue;
                case '双' or '两': side = Side.Both; continue;
            }
            BrainRegion region = m.Value switch
            {
                "丘脑" => BrainRegion.Thalamus,
                "放射冠" => BrainRegion.CoronaRadiata,
                "脑干" or "桥脑" or "脑桥" or "中脑" or "延髓" => BrainRegion.BrainStem,
                ['半', ..] => BrainRegion.CentrumSemiovale,
                ['大', ..] => BrainRegion.None,
                ['小', ..] => BrainRegion.Cerebellum,
                _ => BrainRegion.BasalGanglia,
            };
            found.Add(new LesionFact(intra, region, region == BrainRegion.BrainStem ? Side.Midline : side));
        }
        // Blood of no stated place, as labels without a place give it.
        if (found.Count == 0 && clause.Contains("脑实质")) found.Add(new LesionFact(intra, BrainRegion.None, side));
        return found;
    }

    private static BrainRegion Lobe(char letter) => letter switch
    {
        '额' => BrainRegion.Frontal, '颞' => BrainRegion.Temporal, '顶' => BrainRegion.Parietal, _ => BrainRegion.Occipital,
    };
}
