namespace Pcrl.Runtime.Language;

/// <summary>
/// The text around the visual tokens (reference §3): head, visual tokens, tail, and then the model writes the findings. Special
/// tokens may stand in both texts; whatever the vocabulary does not know as one is read as plain text.
/// </summary>
/// <param name="Head">Text before the visual tokens, with the token that begins every text.</param>
/// <param name="Tail">Text behind them: the instruction.</param>
public sealed record Prompt(string Head, string Tail)
{
    /// <summary>The authors' prompt for report generation.</summary>
    public static Prompt ReportGeneration { get; } = new("<|begin_of_text|>[Img]", "[/Img][MRG]详细地用中文描述给定的多张脑CT图片并生成一份中文的脑CT报告。");
}
