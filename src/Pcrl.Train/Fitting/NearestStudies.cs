using System.Numerics.Tensors;
using Pcrl.Train.Checkpoints;
using static TorchSharp.torch;

namespace Pcrl.Train.Fitting;

/// <summary>Retrieval by image: a baseline that knows no language. Studies are near whose pooled trunk features, slice by slice, point the same way.</summary>
internal static class NearestStudies
{
    /// <summary>For every study of <paramref name="asked"/> the number of the nearest one of <paramref name="known"/> (largest cosine; of equally near ones the first).</summary>
    public static int[] Find(FeatureCache known, FeatureCache asked, CancellationToken cancellation)
    {
        var vectors = Enumerable.Range(0, known.Count).Select(study => Vector(known, study)).ToList();
        return [.. Enumerable.Range(0, asked.Count).Select(study =>
        {
            cancellation.ThrowIfCancellationRequested();
            float[] vector = Vector(asked, study);
            return Enumerable.Range(0, vectors.Count).MaxBy(other => TensorPrimitives.CosineSimilarity(vector, vectors[other]));
        })];
    }

    /// <summary>[24 · C]</summary>
    private static float[] Vector(FeatureCache features, int study)
    {
        using var scope = NewDisposeScope();
        return Weights.Floats(features.Take([study]).Pooled);
    }
}
