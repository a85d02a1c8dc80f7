using System.Text.Json;
using System.Text.Json.Nodes;
using Pcrl.Train.Checkpoints;
using Pcrl.Train.Data;
using Pcrl.Train.Fitting;
using Pcrl.Train.Torch;

namespace Pcrl.Train.Evaluation;

/// <summary>How a model does on studies it has not seen, beside a baseline that prints one report for all of them, one with the commonest facts.</summary>
/// <param name="Model">The facts of its greedy reports.</param>
/// <param name="Baseline">Those of the report that repeats best (<see cref="FindingScore.Commonest"/>).</param>
/// <param name="Scores">The paper's metrics of its reports.</param>
/// <param name="Reports">What the model wrote, study by study, beside the truth.</param>
public sealed record HeldOutScore(
    FindingScore Model, FindingScore Baseline, ReportScore Scores, IReadOnlyList<(string Reference, string Generated)> Reports)
{
    /// <summary>What copying from the training set scores; empty where that set is not at hand.</summary>
    public IReadOnlyList<AblationRow> Copying { get; init; } = [];

    /// <summary>What of the studies stands in the training set as well; null where that set is not at hand.</summary>
    public Leakage? Leakage { get; init; }

    /// <summary>Measures a run on phantoms.</summary>
    /// <param name="run">The model.</param>
    /// <param name="count">Phantoms.</param>
    /// <param name="firstSeed">Seed of the first; they must not be training seeds.</param>
    /// <param name="difficulty">0 (easy) to 1 (subtle).</param>
    /// <param name="progress">Told about every study.</param>
    /// <param name="cancellation">Stops between two studies.</param>
    public static HeldOutScore Measure(
        TrainedRun run, int count, ulong firstSeed, float difficulty, IProgress<StageProgress> progress, CancellationToken cancellation)
    {
        var config = run.Config;
        var studies = TrainingStudy.Produce(
            "held-out", firstSeed, count, config.Threads, TrainingStudy.Maker(config, difficulty), progress, cancellation);
        using var workers = new Workers(config.Threads);
        workers.Seed(config.Seed);
        using var features = FeatureCache.Compute(null, run.Model, studies, config.SliceCount, workers, progress, cancellation);
        return Of([.. studies.Select(s => s.Findings[0])], ReportWriter.Write(run, features, progress, cancellation), cancellation);
    }

    /// <summary>Scores reports.</summary>
    public static HeldOutScore Of(IReadOnlyList<string> references, IReadOnlyList<string> reports, CancellationToken cancellation)
    {
        string frequent = FindingScore.Commonest(references);
        var pairs = references.Zip(reports).ToList();
        return new HeldOutScore(
            FindingScore.Of(pairs), FindingScore.Of([.. references.Select(r => (r, frequent))]), ReportScore.Of(references, reports, cancellation), pairs);
    }

    /// <summary>All scores as JSON.</summary>
    public JsonObject ToJson() => new()
    {
        ["model"] = JsonSerializer.SerializeToNode(Model, Options),
        ["baseline"] = JsonSerializer.SerializeToNode(Baseline, Options),
        ["scores"] = JsonSerializer.SerializeToNode(Scores, Options),
        ["copying"] = JsonSerializer.SerializeToNode(Copying, Options),
    };

    private static readonly JsonSerializerOptions Options = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.SnakeCaseLower,
        NumberHandling = System.Text.Json.Serialization.JsonNumberHandling.AllowNamedFloatingPointLiterals,
    };
}
