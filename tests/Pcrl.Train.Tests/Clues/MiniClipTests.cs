using Pcrl.Train.Clues;
using static TorchSharp.torch;

namespace Pcrl.Train.Tests.Clues;

/// <summary>What the small image-text model learns to choose.</summary>
[Collection("torch")]
public sealed class MiniClipTests
{
    /// <summary>Three masks, two entities; the second asks only for the last two masks, the first for all.</summary>
    [Fact]
    public void An_entity_chooses_among_masks_of_its_layers()
    {
        using var scope = NewDisposeScope();
        var matches = tensor(new[,] { { 0.5f, 0.9f }, { 0, 0 }, { 0.25f, 0.3f } });
        var asked = tensor(new[,] { { true, false }, { true, true }, { true, true } });
        var logits = tensor(new[,] { { 1f, 50 }, { 0, 2 }, { -1, 1 } });
        double one = Math.Log(Math.E + 1 + 1 / Math.E), two = Math.Log(Math.E * Math.E + Math.E);
        double expected = ((2 * (one - 1) + (one + 1)) / 3 + (two - 1)) / 2; // shares 2 : 1 of the first, all of the second's on the last mask
        Assert.Equal(expected, MiniClip.Loss(logits, matches, asked).item<float>(), 1e-5);
    }

    /// <summary>An entity that no mask of the study shows teaches nothing.</summary>
    [Fact]
    public void An_entity_without_a_match_does_not_count()
    {
        using var scope = NewDisposeScope();
        var asked = ones(2, 2, dtype: ScalarType.Bool);
        var logits = tensor(new[,] { { 1f, 7 }, { 0, 3 } });
        double expected = Math.Log(Math.E + 1) - 1;
        Assert.Equal(expected, MiniClip.Loss(logits, tensor(new[,] { { 0.5f, 0 }, { 0, 0 } }), asked).item<float>(), 1e-5);
        Assert.Equal(0, MiniClip.Loss(logits, zeros(2, 2), asked).item<float>());
    }
}
