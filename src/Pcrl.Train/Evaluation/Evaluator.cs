using System.Collections.Concurrent;
using Pcrl.Train.Clues;

namespace Pcrl.Train.Evaluation;

/// <summary>What to evaluate, and how.</summary>
public sealed record EvaluationRequest
{
    /// <summary>The cases with the hypotheses of every system.</summary>
    public required CasePairing Cases { get; init; }

    /// <summary>Names of the systems, as many as <see cref="CasePairing.Hypotheses"/>; the first is the one that others are compared with.</summary>
    public required IReadOnlyList<string> SystemNames { get; init; }

    /// <summary>Ways to cut texts, at least one.</summary>
    public required IReadOnlyList<Tokenisation> Tokenisations { get; init; }

    /// <summary>Reports of the training set, for the baselines and the share of copies; null when there are none.</summary>
    public IReadOnlyList<string>? Train { get; init; }

    /// <summary>Bootstrap samples and permutations; 0 leaves out intervals and p.</summary>
    public int Resamples { get; init; } = 1000;

    /// <summary>Same seed, same intervals.</summary>
    public int Seed { get; init; }
}

/// <summary>One score of one system.</summary>
/// <param name="Name">Name of the metric, such as BLEU-4.</param>
/// <param name="Tokens">Name of the tokenisation, empty for metrics that have none.</param>
/// <param name="Value">The score: CIDEr 0 to 10, everything else 0 to 1.</param>
/// <param name="Interval">95 % bootstrap interval, null without resampling.</param>
/// <param name="Difference">Against the first system; null for the first system itself and without resampling.</param>
public sealed record Score(string Name, string Tokens, double Value, Interval? Interval, Difference? Difference);

/// <summary>CE of one entity.</summary>
public sealed record EntityScore(string Entity, string English, int Support, double Precision, double Recall, double F1);

/// <summary>Everything about one system.</summary>
/// <param name="Name">As in the request, or the name of a baseline.</param>
/// <param name="IsBaseline">True for what the evaluator added.</param>
/// <param name="Hypotheses">One text per case.</param>
/// <param name="Scores">In the same order for every system.</param>
/// <param name="Entities">CE of every entity, most frequent in the references first.</param>
/// <param name="Distinct">Share of different texts among the hypotheses.</param>
/// <param name="Copied">Share of hypotheses that stand word for word in the training set; null without one.</param>
/// <param name="PerCase">Per case the scores, in the order of <paramref name="Scores"/>.</param>
public sealed record SystemResult(
    string Name, bool IsBaseline, IReadOnlyList<string> Hypotheses, IReadOnlyList<Score> Scores, IReadOnlyList<EntityScore> Entities,
    double Distinct, double? Copied, IReadOnlyList<IReadOnlyList<double>> PerCase);

/// <summary>The result of an evaluation: the systems of the request, then the baselines.</summary>
/// <param name="Cases">What was evaluated.</param>
/// <param name="Systems">All systems.</param>
/// <param name="ReferenceDistinct">Share of different texts among the first references.</param>
/// <param name="ReferenceCopied">Share of first references that stand word for word in the training set; null without one.</param>
/// <param name="Resamples">As requested.</param>
/// <param name="Seed">As requested.</param>
public sealed record EvaluationResult(
    CasePairing Cases, IReadOnlyList<SystemResult> Systems, double ReferenceDistinct, double? ReferenceCopied, int Resamples, int Seed);

/// <summary>Scores systems against references with every metric, and the baselines beside them.</summary>
public static class Evaluator
{
    /// <summary>Name of the baseline that prints the commonest training report for every case.</summary>
    public const string MostFrequentName = "most frequent report";

    /// <summary>Name of the baseline that replaces each hypothesis of the first system by the nearest training report.</summary>
    public const string NearestName = "nearest report";

    /// <summary>Name of the baseline that copies the training report nearest to the reference itself: no model may look there.</summary>
    public const string OracleName = "nearest report (oracle)";

    /// <summary>Runs the evaluation.</summary>
    public static EvaluationResult Run(EvaluationRequest request, CancellationToken cancellation = default)
    {
        var cases = request.Cases;
        var systems = request.SystemNames.Zip(cases.Hypotheses, (name, texts) => (Name: name, IsBaseline: false, Texts: texts)).ToList();
        if (request.Train is { Count: > 0 } train)
            systems.AddRange(BaselineSystems(cases, train, request.Tokenisations[0]));

        var alignments = new ConcurrentDictionary<(string, string), MeteorCounts>();
        var metrics = request.Tokenisations.Select(t => (t.Name, Metrics: new TextMetrics(t, cases.References, alignments))).ToList();
        var trained = request.Train?.Select(Squeeze).ToHashSet();
        var resampling = request.Resamples > 0 ? new Resampling(cases.Ids.Count, request.Resamples, request.Seed) : null;
        List<(string Tokens, Measure Measure)>? first = null;
        List<double[][]>? firstSamples = null;
        var results = new List<SystemResult>();
        foreach (var system in systems)
        {
            cancellation.ThrowIfCancellationRequested();
            var measures = Measures(system.Texts, cases, metrics, cancellation);
            var samples = resampling is null ? null : measures.Select(m => resampling.Bootstrap(m.Measure, cancellation)).ToList();
            var scores = new List<Score>();
            for (int m = 0; m < measures.Count; m++)
                scores.AddRange(Scores(measures[m], samples?[m], first?[m].Measure, firstSamples?[m], resampling, cancellation));
            results.Add(new SystemResult(
                system.Name, system.IsBaseline, system.Texts, scores, PerEntity(measures[0].Measure), DistinctShare(system.Texts), CopiedShare(system.Texts, trained),
                [.. Enumerable.Range(0, cases.Ids.Count).Select(i => (IReadOnlyList<double>)[.. measures.SelectMany(m => m.Measure.OfItem(i))])]));
            first ??= measures;
            firstSamples ??= samples;
        }
        string[] references = [.. cases.References.Select(texts => texts[0])];
        return new EvaluationResult(cases, results, DistinctShare(references), CopiedShare(references, trained), request.Resamples, request.Seed);
    }

    private static IEnumerable<(string Name, bool IsBaseline, IReadOnlyList<string> Texts)> BaselineSystems(
        CasePairing cases, IReadOnlyList<string> train, Tokenisation tokenisation)
    {
        var baselines = new Baselines(train, tokenisation);
        yield return (MostFrequentName, true, [.. Enumerable.Repeat(baselines.MostFrequent, cases.Ids.Count)]);
        yield return (NearestName, true, [.. cases.Hypotheses[0].Select(baselines.Nearest)]);
        yield return (OracleName, true, [.. cases.References.Select(texts => baselines.Nearest(texts[0]))]);
    }

    /// <summary>CE first, then the text metrics under each tokenisation.</summary>
    private static List<(string Tokens, Measure Measure)> Measures(
        IReadOnlyList<string> texts, CasePairing cases, List<(string Name, TextMetrics Metrics)> metrics, CancellationToken cancellation)
    {
        var measures = new List<(string, Measure)>
        {
            ("", ClinicalEfficacy.Entities(texts, cases.References)),
            ("", ClinicalEfficacy.Findings(texts, cases.References)),
        };
        foreach (var (name, text) in metrics)
            measures.AddRange(text.Score(texts, cancellation).Select(measure => (name, measure)));
        return measures;
    }

    private static IEnumerable<Score> Scores(
        (string Tokens, Measure Measure) measured, double[][]? samples, Measure? first, double[][]? firstSamples, Resampling? resampling, CancellationToken cancellation)
    {
        var measure = measured.Measure;
        double[] values = measure.Total(), firstValues = first?.Total() ?? values;
        double[]? p = first is null ? null : resampling?.Permutation(measure, first, cancellation);
        for (int k = 0; k < values.Length; k++)
        {
            Difference? difference = p is null ? null
                : new Difference(values[k] - firstValues[k], Resampling.Middle(samples![k].Zip(firstSamples![k], (a, b) => a - b)), p[k]);
            yield return new Score(measure.Names[k], measured.Tokens, values[k], samples is null ? null : Resampling.Middle(samples[k]), difference);
        }
    }

    private static IReadOnlyList<EntityScore> PerEntity(Measure entities)
    {
        var vocabulary = ClueVocabulary.Default;
        return [.. vocabulary.Entities.Select((entity, number) => (entity, Rates: ClinicalEfficacy.OfLabel(entities, number)))
            .Select(e => new EntityScore(e.entity, vocabulary.English[e.entity], e.Rates.Support, e.Rates.Precision, e.Rates.Recall, e.Rates.F1))
            .OrderByDescending(e => e.Support)];
    }

    private static double DistinctShare(IReadOnlyList<string> texts) => texts.Select(Squeeze).Distinct().Count() / (double)texts.Count;

    private static double? CopiedShare(IReadOnlyList<string> texts, HashSet<string>? trained) =>
        trained is null ? null : texts.Count(text => trained.Contains(Squeeze(text))) / (double)texts.Count;

    /// <summary>White space does not make two reports different.</summary>
    private static string Squeeze(string text) => string.Concat(text.Where(c => !char.IsWhiteSpace(c)));
}
