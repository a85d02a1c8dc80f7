namespace Pcrl.Train.Data;

/// <summary>A study as the stages of training see it.</summary>
/// <param name="Seed">Seed of the phantom.</param>
/// <param name="Slices">[24, S, S] grey values 0 to 255 after windowing, caudal to cranial.</param>
/// <param name="Labels">[24, labels], 0 or 1 (see <see cref="SliceLabels"/>).</param>
/// <param name="Findings">Wordings of the findings; the first is the phantom's own.</param>
/// <param name="KeyPhrases">The truth in short phrases.</param>
public sealed record TrainingStudy(
    ulong Seed, byte[] Slices, byte[] Labels, IReadOnlyList<string> Findings, IReadOnlyList<string> KeyPhrases);
