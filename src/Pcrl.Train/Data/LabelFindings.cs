using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Data;

/// <summary>
/// Words what slice labels of haemorrhage say as a findings text, in the vocabulary of the phantoms' texts. It is label-derived, not a radiologist's
/// report: it names neither sides nor places and calls nothing normal, because the labels don't.
/// </summary>
internal static class LabelFindings
{
    private static readonly Dictionary<LesionKind, string[]> Present = new()
    {
        [LesionKind.Haemorrhage] = ["脑实质内见片状高密度影", "脑实质内可见高密度灶", "脑实质内见高密度出血灶"],
        [LesionKind.Subdural] = ["颅板下见新月形高密度影", "颅骨内板下可见新月形高密度影", "颅板下见弧形、新月形高密度影"],
        [LesionKind.Epidural] = ["颅板下见梭形高密度影", "颅骨内板下可见梭形高密度影", "颅板下可见双凸透镜形高密度影"],
        [LesionKind.Subarachnoid] = ["脑沟、脑池内见高密度影", "脑沟及侧裂池内见线样高密度影", "脑沟、脑裂内可见条片状高密度影"],
        [LesionKind.Intraventricular] = ["侧脑室内见高密度影", "侧脑室后角见高密度积血影", "侧脑室内可见高密度液平"],
    };

    private static readonly string[] Absent = ["颅内未见积血", "脑实质、脑室及脑外间隙未见积血", "颅内未见明显积血征象"];

    private static readonly Dictionary<LesionKind, string> Words = new()
    {
        [LesionKind.Haemorrhage] = "脑实质", [LesionKind.Subdural] = "新月形", [LesionKind.Epidural] = "梭形",
        [LesionKind.Subarachnoid] = "脑池", [LesionKind.Intraventricular] = "侧脑室",
    };

    /// <summary>The kinds of blood that can be stated.</summary>
    public static IReadOnlyCollection<LesionKind> Kinds => Present.Keys;

    /// <summary>One wording.</summary>
    /// <param name="kinds">The kinds of blood that were labelled, those to be named first in front; none for a text that denies blood.</param>
    /// <param name="random">Chooses the words.</param>
    public static string Compose(IReadOnlyList<LesionKind> kinds, PhantomRandom random) => kinds.Count == 0
        ? random.Pick<string>(Absent) + "。"
        : string.Concat(kinds.Select(kind => random.Pick<string>(Present[kind]) + "。"));

    /// <summary>
    /// Texts without pictures, from which an LLM learns how labels are worded: on most slices "未见积血", and in every other one on fewer slices a word for one or two kinds of blood.
    /// </summary>
    public static List<TrainingStudy> Lessons(int count)
    {
        var lessons = new List<TrainingStudy>(count);
        for (ulong i = 0; i < (ulong)count; i++)
        {
            var random = new PhantomRandom(i, LessonStream);
            LesionKind[] kinds = i % 2 == 0 ? [] : [.. new[] { random.Pick<LesionKind>([.. Kinds]), random.Pick<LesionKind>([.. Kinds]) }.Distinct()];
            lessons.Add(new TrainingStudy(i, [], [], null, [Compose(kinds, random)], ["未见积血", .. kinds.Select(kind => $"积血 {Words[kind]}")]));
        }
        return lessons;
    }

    private const ulong LessonStream = 1000;
}
