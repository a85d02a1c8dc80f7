namespace Pcrl.Train.Evaluation;

/// <summary>
/// ROUGE-L as COCO's caption evaluation computes it: the longest common subsequence against each reference, the best precision and the best recall
/// joined with β = 1.2; the score of a set is the mean.
/// </summary>
internal static class RougeL
{
    private const double SquaredBeta = 1.2 * 1.2;

    public static Measure Compute(IReadOnlyList<int[]> hypotheses, IReadOnlyList<int[][]> references)
    {
        var scores = new double[hypotheses.Count];
        for (int i = 0; i < scores.Length; i++)
        {
            // The reference program splits an empty text into one empty word; two empty texts therefore agree.
            int[] hypothesis = WordOrEmpty(hypotheses[i]);
            double precision = 0, recall = 0;
            foreach (int[] reference in references[i].Select(WordOrEmpty))
            {
                int common = LongestCommonSubsequence(hypothesis, reference);
                precision = Math.Max(precision, common / (double)hypothesis.Length);
                recall = Math.Max(recall, common / (double)reference.Length);
            }
            if (precision > 0 && recall > 0)
                scores[i] = (1 + SquaredBeta) * precision * recall / (recall + SquaredBeta * precision);
        }
        return Measure.Mean("ROUGE-L", scores);
    }

    private static int[] WordOrEmpty(int[] tokens) => tokens.Length > 0 ? tokens : [-1];

    private static int LongestCommonSubsequence(int[] a, int[] b)
    {
        var row = new int[b.Length + 1];
        foreach (int token in a)
        {
            int diagonal = 0;
            for (int j = 1; j <= b.Length; j++)
            {
                int above = row[j];
                row[j] = token == b[j - 1] ? diagonal + 1 : Math.Max(above, row[j - 1]);
                diagonal = above;
            }
        }
        return row[b.Length];
    }
}
