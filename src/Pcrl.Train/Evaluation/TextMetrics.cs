using System.Collections.Concurrent;

namespace Pcrl.Train.Evaluation;

/// <summary>
/// BLEU, METEOR, ROUGE-L and CIDEr of any number of systems against the same references under one tokenisation. What depends on the references
/// alone is prepared once. Not safe for several threads; METEOR uses all cores by itself.
/// </summary>
public sealed class TextMetrics
{
    private readonly Tokenisation _tokenisation;
    private readonly NgramVocabulary _vocabulary = new();
    private readonly int[][][] _references;
    private readonly NgramCounts[][] _referenceNgrams;
    private readonly Cider _cider;
    private readonly Meteor _meteor;
    private readonly Meteor? _normalisedMeteor;

    /// <param name="tokenisation">How texts are cut.</param>
    /// <param name="references">The references of every case, at least one each.</param>
    public TextMetrics(Tokenisation tokenisation, IReadOnlyList<IReadOnlyList<string>> references)
        : this(tokenisation, references, new ConcurrentDictionary<(string, string), MeteorCounts>())
    {
    }

    /// <summary>Shares METEOR's alignments with other tokenisations: they are the slowest part.</summary>
    internal TextMetrics(
        Tokenisation tokenisation, IReadOnlyList<IReadOnlyList<string>> references, ConcurrentDictionary<(string Hypothesis, string Reference), MeteorCounts> alignments)
    {
        _tokenisation = tokenisation;
        string[][][] words = [.. references.Select(texts => texts.Select(tokenisation.Cut).ToArray())];
        _references = [.. words.Select(texts => texts.Select(text => _vocabulary.Tokens(text)).ToArray())];
        _referenceNgrams = [.. _references.Select(texts => texts.Select(_vocabulary.CountNgrams).ToArray())];
        _cider = new Cider(_vocabulary, _referenceNgrams);
        _meteor = new Meteor("METEOR-raw", [.. words.Select(texts => texts.Select(LowerCase).ToArray())], alignments);
        if (tokenisation.TokensAreText)
            _normalisedMeteor = new Meteor("METEOR", [.. words.Select(texts => texts.Select(Normalise).ToArray())], alignments);
    }

    /// <summary>Scores one system.</summary>
    /// <param name="hypotheses">One text per case, in the order of the references.</param>
    /// <param name="cancellation">Stops the work.</param>
    public IReadOnlyList<Measure> Score(IReadOnlyList<string> hypotheses, CancellationToken cancellation = default)
    {
        if (hypotheses.Count != _references.Length)
            throw new ArgumentException("one hypothesis per case is needed", nameof(hypotheses));
        string[][] words = [.. hypotheses.Select(_tokenisation.Cut)];
        int[][] tokens = [.. words.Select(text => _vocabulary.Tokens(text))];
        NgramCounts[] ngrams = [.. tokens.Select(_vocabulary.CountNgrams)];
        var measures = new List<Measure>
        {
            Bleu.Compute(_vocabulary, ngrams, _referenceNgrams),
            RougeL.Compute(tokens, _references),
            _cider.Compute(ngrams),
            _meteor.Compute([.. words.Select(LowerCase)], cancellation),
        };
        if (_normalisedMeteor is not null)
            measures.Insert(1, _normalisedMeteor.Compute([.. words.Select(Normalise)], cancellation));
        return measures;
    }

    private static string[] LowerCase(string[] words) => [.. words.Select(word => word.ToLowerInvariant())];

    private static string[] Normalise(string[] words) => MeteorText.Normalise(string.Join(' ', words));
}
