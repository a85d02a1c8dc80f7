using System.Security.Cryptography;
using System.Text;
using System.Text.Json;
using Pcrl.Runtime;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Evaluation;
using Pcrl.Train.Torch;

namespace Pcrl.Train.Fitting;

/// <summary>
/// The rows of the paper's Table 2, several seeds each, on phantoms. Trunk, LLM, studies and features are the same for all and made once; a row differs in its losses
/// alone, a seed in first values, order, wordings and dropout. Every finished fit is kept, so an interrupted ablation goes on with the next one.
/// </summary>
public sealed class Ablation
{
    private static readonly JsonSerializerOptions Json = new() { WriteIndented = true, PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower };

    private readonly string _folder;
    private readonly IReadOnlyList<RunConfig> _rows;
    private readonly int[] _seeds;

    /// <param name="rows">One configuration for each row.</param>
    /// <param name="seeds">Seeds of every row, at least one.</param>
    /// <param name="folder">Where all of it goes.</param>
    /// <exception cref="InputException">The rows differ in more than losses, or are not of phantoms.</exception>
    public Ablation(IReadOnlyList<RunConfig> rows, IEnumerable<int> seeds, string folder)
    {
        (_rows, _seeds, _folder) = (rows, [.. seeds], folder);
        string Shared(RunConfig row) => (row with
        {
            Name = "", Description = "", Loss = rows[0].Loss, Bert = rows[0].Bert, Pretrained = row.Pretrained with { Bert = rows[0].Pretrained.Bert },
        }).ToJson();
        if (rows.FirstOrDefault(row => Shared(row) != Shared(rows[0])) is { } other)
            throw new InputException(other.Name, $"differs from {rows[0].Name} in more than its losses, so the rows cannot be compared");
        if (rows.FirstOrDefault(row => row.Data.Source != "phantoms") is { } real)
            throw new InputException(real.Name, "an ablation is made on phantoms");
        if (rows.GroupBy(row => row.Name).FirstOrDefault(g => g.Count() > 1) is { } twice)
            throw new InputException(twice.Key, "names two rows");
    }

    /// <summary>Fits what is missing.</summary>
    /// <param name="told">Told the table after every fit.</param>
    /// <param name="progress">Told about every step.</param>
    /// <param name="cancellation">Stops between two steps.</param>
    /// <returns>The table.</returns>
    public AblationTable Run(Action<AblationTable> told, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var config = _rows[0];
        foreach (var row in _rows)
            row.CheckFit(several: true);
        var folder = new RunFolder(Path.Combine(_folder, "base"));
        folder.Create();
        using var workers = new Workers(config.Threads);
        var stages = new StageStore(folder, () => workers.Seed(config.Seed));
        using var start = BaseModel.Make(config with { Loss = Losses.LossConfig.ReportOnly }, stages, scans: false, workers, progress, cancellation);
        var split = StudySplit.OfPhantoms(config, start.Phantoms, progress, cancellation);
        FeatureSet Features(string part, IReadOnlyList<TrainingStudy> studies) =>
            new(studies, FeatureCache.Compute(folder.Stage(part + ".features"), start.Run.Model, studies, config.SliceCount, workers, progress, cancellation));
        int reports = config.JointFit.Studies == 0 ? split.Training.Count : Math.Min(config.JointFit.Studies, split.Training.Count);
        using var training = Features("training", [.. split.Training.Take(reports)]);
        using var heldOut = Features("held-out", split.HeldOut);
        string[] references = [.. split.HeldOut.Select(s => s.Findings[0])];

        string[] known = [.. training.Studies.Select(s => s.Findings[0])];
        var copying = ReportScore.Copying(references, known, [.. NearestStudies.Find(training.Features, heldOut.Features, cancellation).Select(i => known[i])], cancellation);

        var scores = _rows.Select(_ => new List<ReportScore>()).ToArray();
        AblationTable table = new([]);
        foreach (int seed in _seeds)
        {
            for (int row = 0; row < _rows.Count; row++)
            {
                var own = _rows[row] with { JointFit = config.JointFit with { Seed = seed } };
                string file = folder.Stage($"{own.Name}-{seed}.json");
                string key = Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(stages.Key + split.Hash + own.ToJson())));
                if (Finished(file, key) is not { } score)
                {
                    using var run = start.Start(own, workers);
                    using var fit = new JointFit(run, workers, training, null);
                    fit.Run(null, false, null, progress, cancellation);
                    score = ReportScore.Of(references, ReportWriter.Write(run, heldOut.Features, progress, cancellation), cancellation);
                    AtomicFile.WriteText(file, JsonSerializer.Serialize(new Fit(key, score), Json));
                }
                scores[row].Add(score);
                told(table = new AblationTable([.. copying, .. _rows.Zip(scores, (r, s) => new AblationRow(r.Name, r.Description, s))]));
            }
        }
        AtomicFile.WriteText(Path.Combine(_folder, "table.md"), table.ToMarkdown());
        AtomicFile.WriteText(Path.Combine(_folder, "table.json"), JsonSerializer.Serialize(table, Json));
        return table;
    }

    private sealed record Fit(string Key, ReportScore Score);

    private static ReportScore? Finished(string file, string key)
    {
        try
        {
            return File.Exists(file) && JsonSerializer.Deserialize<Fit>(File.ReadAllBytes(file), Json) is { } fit && fit.Key == key ? fit.Score : null;
        }
        catch (Exception e) when (e is IOException or JsonException)
        {
            return null; // as good as none: it is fitted again
        }
    }
}
