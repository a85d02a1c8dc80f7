namespace Pcrl.Train.Fitting;

/// <summary>The joint fit of branches, adapters and the heads of the clues.</summary>
public sealed record JointFitConfig : FitConfig
{
    /// <summary>Seed of what is trained: first values, order of the studies, wordings, dropout.</summary>
    public int Seed { get; init; } = 1;

    /// <summary>Studies whose reports are learned from, the first ones; 0: all.</summary>
    public int Studies { get; init; }

    /// <summary>How the learning rate goes: <c>cosine</c> (a warm-up, then a cosine to zero) or <c>epochs</c> (times <see cref="EpochDecay"/> after every epoch, as the paper).</summary>
    public string Schedule { get; init; } = "cosine";

    /// <summary>Factor of the schedule <c>epochs</c>.</summary>
    public double EpochDecay { get; init; } = 0.85;

    /// <summary>Epochs without a better CE-F1 on the validation studies after which the fit ends; the best weights are then taken. 0: all steps, and the last weights.</summary>
    public int Patience { get; init; }

    /// <summary>Steps between two checkpoints; 0: none.</summary>
    public int CheckpointEvery { get; init; } = 200;

    /// <summary>Validation reports that <c>samples.txt</c> shows after every epoch.</summary>
    public int Samples { get; init; } = 2;

    /// <summary>How masks come to the grid: <c>nearest</c> or <c>coverage</c> (see <see cref="Clues.MaskGrid"/>).</summary>
    public string Masks { get; init; } = "nearest";

    /// <summary>Whether a phantom's organs without a lesion have masks; else only lesions have.</summary>
    public bool OrganMasks { get; init; } = true;

    /// <summary>
    /// Weight in L_g of a token of a study spliced from real scans beside one of a phantom. L_g is a mean over tokens: a label-derived text is a quarter as long as a phantom's, and one or two of its tokens tell blood, so that beside phantoms
    /// hardly anything of L_g is about what is on a real picture.
    /// </summary>
    public float ScanWeight { get; init; } = 1;

    /// <summary>What contradicts itself, or null.</summary>
    public string? Problem() =>
        Schedule is not ("cosine" or "epochs") ? "schedule is neither cosine nor epochs"
        : Masks is not ("nearest" or "coverage") ? "masks is neither nearest nor coverage"
        : !(EpochDecay is > 0 and <= 1) ? $"epoch_decay is {EpochDecay}, not in 0..1"
        : !(ScanWeight is > 0 and <= 1e6f) ? $"scan_weight is {ScanWeight}, not above 0 or too large"
        : Patience < 0 || CheckpointEvery < 0 || Samples < 0 || Studies < 0 ? "patience, checkpoint_every, samples and studies cannot be negative"
        : null;
}
