using Pcrl.Runtime;

namespace Pcrl.Train.Data;

/// <summary>Where the studies of a joint fit come from.</summary>
public sealed record DataConfig
{
    /// <summary><c>phantoms</c>, <c>ctrg</c> (CTRG-Brain in its authors' layout) or <c>ct-ich</c> (real scans with label-derived texts).</summary>
    public string Source { get; init; } = "phantoms";

    /// <summary>Folder of the data set; phantoms need none.</summary>
    public string? Path { get; init; }

    /// <summary>Folder of clues that <c>prepare</c> made; null: phantoms have their own, other studies then have none.</summary>
    public string? Clues { get; init; }

    /// <summary>Seed of the split 7:1:2 by patient, and of the parts of a cross-validation.</summary>
    public int SplitSeed { get; init; } = 1;

    /// <summary>What contradicts itself, or null.</summary>
    public string? Problem() =>
        Source is not ("phantoms" or "ctrg" or "ct-ich") ? $"source '{Source}' is none of phantoms, ctrg, ct-ich"
        : Source == "phantoms" && Path is not null ? "phantoms have no path"
        : Source != "phantoms" && Path is null ? $"source {Source} needs a path"
        : Source == "ct-ich" && Clues is not null ? "label-derived texts of ct-ich name no entities, so there are no clues for it"
        : null;
}

/// <summary>Weights from elsewhere, in any format of <see cref="Checkpoints.Checkpoint"/>.</summary>
public sealed record PretrainedConfig
{
    /// <summary>The trunk under torchvision's names; null: it is trained on phantoms.</summary>
    public string? Trunk { get; init; }

    /// <summary>The LLM under Hugging Face's names, in a folder that also holds its <c>tokenizer.json</c>; null: it is trained on the phantoms' texts.</summary>
    public string? Language { get; init; }

    /// <summary>The BERT that reads the clues of ablation (e), of the dimensions of <c>bert</c>, in a folder that also holds its <c>vocab.txt</c>; null: a random one with the LLM's tokens.</summary>
    public string? Bert { get; init; }

    /// <summary>The word pieces of <see cref="Bert"/>.</summary>
    internal string? BertVocabulary => Bert is null ? null : System.IO.Path.Combine(Bert, "vocab.txt");

    /// <summary>Tells these weights from others: name, size and time of every file; null where none are brought along.</summary>
    internal string? Stamp()
    {
        var files = new[] { Trunk, Language, Bert }.OfType<string>().SelectMany(path => Directory.Exists(path) ? Directory.GetFiles(path) : [path]).ToList();
        return files.Count == 0 ? null : FileStamp.Of(files);
    }
}
