using Pcrl.Runtime.Bundles;

namespace Pcrl.Train.Losses;

/// <summary>
/// Which losses are trained on, in which form: L = report·L_g + segmentation·L_seg + entity·L_CLe + theme·L_CLt. A coefficient of 0 leaves a loss, and what
/// is trained by it alone, out: so the rows of the paper's Table 2 differ in this record only.
/// </summary>
public sealed record LossConfig
{
    /// <summary>Coefficient of L_g.</summary>
    public double Report { get; init; } = 1;

    /// <summary>Coefficient of L_seg (SCA).</summary>
    public double Segmentation { get; init; } = 1;

    /// <summary>Coefficient of L_CLe (ECA).</summary>
    public double Entity { get; init; } = 1;

    /// <summary>Coefficient of L_CLt (TCA).</summary>
    public double Theme { get; init; } = 1;

    /// <summary>Form of L_seg: <c>paper</c> (eq. 3) or <c>released</c>.</summary>
    public string Dice { get; init; } = "paper";

    /// <summary>Form of L_CLe and L_CLt: <c>paper</c> (eq. 6, without the positive in the denominator) or <c>released</c> (CLIP's).</summary>
    public string Contrast { get; init; } = "paper";

    /// <summary>
    /// What becomes of slices or studies that have the very same text: <c>contrast</c> pushes each from the other's text as from any other, as paper and code do; <c>spare</c>
    /// leaves these pairs out of the denominator, where texts are few and often equal.
    /// </summary>
    public string EqualTexts { get; init; } = "contrast";

    /// <summary>
    /// τ of the form <c>paper</c>. It is a constant there: that loss falls without end as τ goes to 0. The form <c>released</c> learns its own, which starts at
    /// 1/exp(2.6592) = 0.07.
    /// </summary>
    public double Temperature { get; init; } = 0.07;

    /// <summary>α_v of eq. 6, here the weight of the mean over the pairs, so that it means the same for any number of slices.</summary>
    public double AlphaVisual { get; init; } = 1;

    /// <summary>α_w of eq. 6, likewise.</summary>
    public double AlphaText { get; init; } = 1;

    /// <summary>Who reads the texts: <c>llama</c>, or <c>bert</c> for ablation (e).</summary>
    public string TextEncoder { get; init; } = "llama";

    /// <summary>
    /// Whether L_CLe and L_CLt train the adapters too, through the texts that the LLM reads, as in the paper. False: a text's representation is where its slice or study is drawn
    /// to and does not move itself, so that in a small LLM the adapters serve L_g alone.
    /// </summary>
    public bool TextGradient { get; init; } = true;

    /// <summary>
    /// What stands around a text whose last hidden state is to represent it. The paper's instruction (§3.3); the authors' code wraps it in LLaMA-3's chat template.
    /// </summary>
    public PromptTemplate Instruction { get; init; } = new("<|begin_of_text|>Summarize the following cranial diagnosis in one word:", "");

    /// <summary>Longest text in tokens, instruction included; what is longer loses its end.</summary>
    public int TextTokens { get; init; } = 256;

    /// <summary>L_g alone: the paper's Baseline.</summary>
    public static LossConfig ReportOnly { get; } = new() { Segmentation = 0, Entity = 0, Theme = 0 };

    /// <summary>What contradicts itself, or null.</summary>
    public string? Problem()
    {
        foreach (var (name, value) in (ReadOnlySpan<(string, double)>)[
            ("report", Report), ("segmentation", Segmentation), ("entity", Entity), ("theme", Theme), ("alpha_visual", AlphaVisual), ("alpha_text", AlphaText)])
        {
            if (!(value >= 0 && double.IsFinite(value)))
                return $"{name} is {value}, not a finite number from 0";
        }
        if (Report + Segmentation + Entity + Theme == 0)
            return "all coefficients are 0, nothing would be trained";
        if (!TextGradient && Report == 0)
            return "text_gradient is false and report is 0, nothing would train the adapters";
        foreach (var (name, form) in (ReadOnlySpan<(string, string)>)[("dice", Dice), ("contrast", Contrast)])
        {
            if (form is not ("paper" or "released"))
                return $"{name} is neither paper nor released";
        }
        if (EqualTexts is not ("contrast" or "spare"))
            return "equal_texts is neither contrast nor spare";
        if (!(Temperature > 0 && double.IsFinite(Temperature)))
            return $"temperature is {Temperature}, not a positive number";
        if (TextEncoder is not ("llama" or "bert"))
            return "text_encoder is neither llama nor bert";
        return TextTokens >= 1 ? null : $"text_tokens is {TextTokens}, less than 1";
    }
}
