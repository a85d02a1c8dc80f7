using Pcrl.Runtime;
using Pcrl.Train.Text.Segmentation;

namespace Pcrl.Train.Tests.Text.Segmentation;

/// <summary>Expected words are what jieba 0.42.1 itself gives; its goldens are in the parity tests.</summary>
public sealed class JiebaTests
{
    private static readonly Lazy<HiddenMarkovModel> Model = new(HiddenMarkovModel.LoadDefault);
    private static readonly Lazy<JiebaDictionary> Dictionary = new(JiebaDictionary.LoadDefault);

    [Theory]
    [InlineData("", "", "")]
    [InlineData("半卵圆中心", "半卵 圆 中心", "半 卵 圆 中心")]
    [InlineData("余脑实质内未见明显异常密度", "余脑 实质 内未见 明显 异常 密度", "余 脑 实质 内 未 见 明显 异常 密度")]
    [InlineData("A\r\nB1.5%x", "A \r\n B1.5% x", null)]
    [InlineData("😀1.5%x", "😀 1.5% x", "😀 1 . 5 % x")]
    public void Cuts_as_jieba_does(string text, string withModel, string? without)
    {
        Assert.Equal(withModel.Split(' ', StringSplitOptions.RemoveEmptyEntries), new JiebaSegmenter(Dictionary.Value, Model.Value).Cut(text));
        if (without is not null)
            Assert.Equal(without.Split(' ', StringSplitOptions.RemoveEmptyEntries), new JiebaSegmenter(Dictionary.Value, model: null).Cut(text));
    }

    [Fact]
    public void A_user_dictionary_joins_and_forbids_words()
    {
        string path = Path.GetTempFileName();
        try
        {
            File.WriteAllText(path, "\uFEFF放射冠区\n斑点状低密度影 5 n\n\n低密度 0\n");
            var dictionary = JiebaDictionary.LoadDefault();
            dictionary.AddUserDictionary(path);
            var segmenter = new JiebaSegmenter(dictionary, Model.Value);
            Assert.Equal(["双侧", "放射冠区", "见", "斑点状低密度影"], segmenter.Cut("双侧放射冠区见斑点状低密度影"));
            Assert.DoesNotContain("低密度", segmenter.Cut("见低密度灶"));
        }
        finally
        {
            File.Delete(path);
        }
    }

    [Fact]
    public void The_medical_words_are_cut_out_whole()
    {
        var dictionary = JiebaDictionary.LoadDefault();
        dictionary.AddMedicalWords();
        Assert.Equal(["半卵圆中心", "及", "基底节区", "见", "小片状", "低密度影"], new JiebaSegmenter(dictionary, Model.Value).Cut("半卵圆中心及基底节区见小片状低密度影"));
    }

    [Fact]
    public void A_user_dictionary_that_is_not_one_is_refused_by_name()
    {
        string path = Path.GetTempFileName();
        try
        {
            File.WriteAllBytes(path, [0xE6, 0x94, 0x0A]);
            Assert.Contains("UTF-8", Assert.Throws<InputException>(() => JiebaDictionary.LoadDefault().AddUserDictionary(path)).Message);
            File.WriteAllText(path, "一\n二 99999999999\n");
            Assert.Contains("line 2", Assert.Throws<InputException>(() => JiebaDictionary.LoadDefault().AddUserDictionary(path)).Message);
        }
        finally
        {
            File.Delete(path);
        }
        Assert.Throws<InputException>(() => JiebaDictionary.LoadDefault().AddUserDictionary(path));
    }
}
