namespace Pcrl.Runtime.Language;

/// <summary>Why generation ended.</summary>
public enum StopReason
{
    /// <summary>The model wrote a token that ends the text.</summary>
    EndOfText,

    /// <summary><see cref="SamplingOptions.MaxTokens"/> were generated.</summary>
    TokenLimit,

    /// <summary>The context is full.</summary>
    ContextFull,
}

/// <summary>Counts and times of one generation.</summary>
/// <param name="Stop">Why it ended.</param>
/// <param name="VisualTokens">Rows of visual tokens in the prompt.</param>
/// <param name="PromptTokens">Text tokens in the prompt, without the visual ones.</param>
/// <param name="GeneratedTokens">Generated tokens, without the one that ended the text.</param>
/// <param name="Steps">Batches that took part in writing, the prompt's included; fewer than tokens if drafts were right.</param>
/// <param name="DraftedTokens">Tokens that were drafted and checked.</param>
/// <param name="Prefill">Time from taking the prompt up to the first token.</param>
/// <param name="Decode">Time of all that followed.</param>
public sealed record GenerationSummary(
    StopReason Stop, int VisualTokens, int PromptTokens, int GeneratedTokens, int Steps, int DraftedTokens, TimeSpan Prefill, TimeSpan Decode);

/// <summary>A piece of the text as it grows.</summary>
/// <param name="Text">Whole characters; a character that spans tokens comes with its last one.</param>
/// <param name="Summary">Set on the last piece only, which always comes unless the generation is cancelled or fails.</param>
public sealed record GeneratedPiece(string Text, GenerationSummary? Summary = null);
