using static TorchSharp.torch;

namespace Pcrl.Train.Models;

/// <summary>
/// Rotary positions in Hugging Face's layout: dimension i of a head turns with dimension i + head/2 ("rotate half").
/// </summary>
internal static class RotaryEmbedding
{
    /// <summary>cos and sin for positions <paramref name="first"/> … <paramref name="first"/>+<paramref name="count"/>−1, each [count, head].</summary>
    public static (Tensor Cos, Tensor Sin) Tables(long first, long count, int headSize, double theta)
    {
        using var scope = NewDisposeScope();
        var frequencies = 1.0 / pow(theta, arange(0, headSize, 2, ScalarType.Float32) / headSize); // [head/2]
        var angles = outer(arange(first, first + count, ScalarType.Float32), frequencies);
        angles = cat([angles, angles], dim: 1); // [count, head]
        return (angles.cos().MoveToOuterDisposeScope(), angles.sin().MoveToOuterDisposeScope());
    }

    /// <summary>Turns <paramref name="x"/> [B, heads, T, head] by the tables [T, head], in float32, back to its own type.</summary>
    public static Tensor Rotate(Tensor x, Tensor cos, Tensor sin)
    {
        long half = x.shape[^1] / 2;
        using var scope = NewDisposeScope();
        var turned = cat([-x.narrow(-1, half, half), x.narrow(-1, 0, half)], dim: -1);
        return (x * cos + turned * sin).to(x.dtype).MoveToOuterDisposeScope();
    }
}
