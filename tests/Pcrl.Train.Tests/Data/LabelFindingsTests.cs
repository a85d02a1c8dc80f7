using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;

namespace Pcrl.Train.Tests.Data;

public sealed class LabelFindingsTests
{
    [Fact]
    public void A_text_without_blood_has_none_of_the_words_that_state_it()
    {
        // So that even a reader who looks for words alone is right.
        string[] texts = [.. Enumerable.Range(0, 50).Select(seed => LabelFindings.Compose([], new PhantomRandom((ulong)seed))).Distinct()];
        Assert.True(texts.Length > 1);
        Assert.All(texts, text =>
        {
            Assert.Empty(FindingFacts.Parse(text).Lesions);
            Assert.DoesNotContain("高密度", text);
            Assert.DoesNotContain("出血", text);
        });
    }

    [Fact]
    public void A_text_states_the_labelled_kinds_in_order_and_neither_side_nor_place()
    {
        LesionKind[][] labels = [[], [LesionKind.Subdural], [LesionKind.Epidural, LesionKind.Haemorrhage], [.. LabelFindings.Kinds]];
        foreach (var kinds in labels)
        {
            for (ulong seed = 0; seed < 20; seed++)
            {
                var lesions = FindingFacts.Parse(LabelFindings.Compose(kinds, new PhantomRandom(seed))).Lesions;
                Assert.Equal(kinds, lesions.Select(l => l.Kind));
                Assert.All(lesions, l => Assert.Equal((BrainRegion.None, Side.Midline), (l.Region, l.Side)));
            }
        }
    }

    [Fact]
    public void Lessons_say_what_their_words_say_and_half_of_them_deny_blood()
    {
        var lessons = LabelFindings.Lessons(200);
        Assert.Equal(100, lessons.Count(l => FindingFacts.Parse(l.Findings[0]).Lesions.Count == 0));
        Assert.All(lessons, l => Assert.Equal("未见积血", l.KeyPhrases[0]));
        // One phrase after the first for each kind that the text states, and always the same phrase for a kind.
        var phrases = new Dictionary<LesionKind, string>();
        foreach (var lesson in lessons)
        {
            var kinds = FindingFacts.Parse(lesson.Findings[0]).Lesions.Select(l => l.Kind).ToArray();
            Assert.Equal(kinds.Length, lesson.KeyPhrases.Count - 1);
            for (int i = 0; i < kinds.Length; i++)
            {
                phrases.TryAdd(kinds[i], lesson.KeyPhrases[i + 1]);
                Assert.Equal(phrases[kinds[i]], lesson.KeyPhrases[i + 1]);
            }
        }
        Assert.Equal(LabelFindings.Kinds.Count, phrases.Values.Distinct().Count());
    }
}
