namespace Pcrl.Train.Evaluation;

/// <summary>
/// Reports that need no model: on text as repetitive as CT findings they score well, and a model that doesn't beat them has learnt little.
/// All of them only copy reports of the training set.
/// </summary>
public sealed class Baselines
{
    private readonly Tokenisation _tokenisation;
    private readonly string[] _reports;
    private readonly Dictionary<string, int> _terms = [];
    private readonly double[] _idf;
    private readonly (int Report, float Weight)[][] _postings; // per term

    /// <param name="train">Reports of the training set.</param>
    /// <param name="tokenisation">Tokens, with their bigrams, are the terms that nearness is measured by.</param>
    public Baselines(IReadOnlyList<string> train, Tokenisation tokenisation)
    {
        _tokenisation = tokenisation;
        var counted = train.Select(text => text.Trim()).Where(text => text.Length > 0).CountBy(text => text).ToList();
        if (counted.Count == 0)
            throw new ArgumentException("no training report", nameof(train));
        MostFrequent = counted.MaxBy(entry => entry.Value).Key;
        MostFrequentShare = counted.Max(entry => entry.Value) / (double)counted.Sum(entry => entry.Value);
        _reports = [.. counted.Select(entry => entry.Key)];
        int[][] terms = [.. _reports.Select(report => Terms(report, grow: true))];
        var frequency = new int[_terms.Count];
        foreach (int term in terms.SelectMany(t => t.Distinct()))
            frequency[term]++;
        _idf = [.. frequency.Select(f => Math.Log(_reports.Length / (double)f))];
        var postings = frequency.Select(f => new List<(int, float)>(f)).ToArray();
        for (int report = 0; report < terms.Length; report++)
        {
            foreach (var (term, weight) in Weights(terms[report]))
                postings[term].Add((report, (float)weight));
        }
        _postings = [.. postings.Select(p => p.ToArray())];
    }

    /// <summary>The report that occurs most often.</summary>
    public string MostFrequent { get; }

    /// <summary>Share of the training set that is <see cref="MostFrequent"/>, 0 to 1.</summary>
    public double MostFrequentShare { get; }

    /// <summary>
    /// The training report nearest to a text: largest cosine of TF-IDF vectors over tokens and bigrams; of equally near ones the first. Given a model's
    /// hypotheses this is retrieval by what the model saw; given the references it is an oracle, the ceiling of all copying.
    /// </summary>
    public string Nearest(string text)
    {
        var scores = new float[_reports.Length];
        foreach (var (term, weight) in Weights(Terms(text, grow: false)))
        {
            foreach (var (report, other) in _postings[term])
                scores[report] += (float)weight * other;
        }
        int best = 0;
        for (int report = 1; report < scores.Length; report++)
        {
            if (scores[report] > scores[best])
                best = report;
        }
        return _reports[best];
    }

    private int[] Terms(string text, bool grow)
    {
        string[] tokens = _tokenisation.Cut(text);
        var ids = new List<int>(2 * tokens.Length);
        for (int i = 0; i < tokens.Length; i++)
        {
            foreach (string term in i == 0 ? [tokens[i]] : (string[])[tokens[i], tokens[i - 1] + '\0' + tokens[i]])
            {
                if (!_terms.TryGetValue(term, out int id))
                {
                    if (!grow)
                        continue;
                    _terms[term] = id = _terms.Count;
                }
                ids.Add(id);
            }
        }
        return [.. ids];
    }

    /// <summary>The TF-IDF vector of length 1; terms that every report has weigh nothing and are left out.</summary>
    private IEnumerable<(int Term, double Weight)> Weights(int[] terms)
    {
        var weights = terms.CountBy(term => term).Select(entry => (entry.Key, Weight: entry.Value * _idf[entry.Key])).Where(entry => entry.Weight > 0).ToList();
        double norm = Math.Sqrt(weights.Sum(entry => entry.Weight * entry.Weight));
        return weights.Select(entry => (entry.Key, entry.Weight / norm));
    }
}
